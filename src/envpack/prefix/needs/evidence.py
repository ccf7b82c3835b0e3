"""Evidence of CUDA and ROCm: from texts and names to findings. Pure, with one function for each kind of source."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envpack.prefix.needs.elf import Elf
from envpack.prefix.needs.rules import Row, family, is_framework, is_toolkit, named, normalized, table
from envpack.runtime.format.manifest import Package

CUDA, ROCM, CPU = "cuda", "rocm", "cpu"


@dataclass(frozen=True)
class Finding:
    """One piece of evidence.

    Attributes:
        platform: CUDA, ROCM or CPU (a build for the CPU of something that has builds for a GPU, too).
        value: The platform's version, such as "12.6", or "12" where only the major one is known; "" for CPU.
        rule: The rule of rules.json.
        source: The origin of the evidence, in words for the user.
        family: The framework; see `rules.family`.
        optional: Whether it comes from something that serves hosts without a GPU too, such as a plug-in, so that
            it counts only together with a CUDA runtime of its version.
    """

    platform: str
    value: str
    rule: str
    source: str
    family: str = ""
    optional: bool = False

    @property
    def major(self) -> str:
        return self.value.partition(".")[0]


def cuda_version(digits: str, minor: str = "") -> str:
    """Return the CUDA version in a name: "126" is 12.6, "12" is 12, "92" is 9.2; "" for other numbers."""
    if not digits or int(digits) == 0:
        return ""
    if len(digits) == 3:
        version = f"{digits[:2]}.{digits[2]}"
    elif len(digits) == 2 and int(digits) >= 60:  # cu80, cu90, cu92: before there was a CUDA 10
        version = f"{digits[0]}.{digits[1]}"
    else:
        version = f"{digits}.{minor}" if minor else digits
    return version if 6 <= int(version.partition(".")[0]) < 40 else ""


def major_minor(version: str) -> str:
    """Return the first two parts of a version: 12.6 of "12.6.77"; "12" stays."""
    return ".".join(version.strip(".").split(".")[:2])


# --- files ---


def framework_file(path: str) -> Row | None:
    """Return the row for a file in which a framework records its build; None for other files."""
    for row in table("files"):
        if path.endswith(row["path"]) and f"/{path}".endswith(f"/{row['path']}"):
            found: Row = row
            return found
    return None


def from_file(path: str, text: str) -> Finding | None:
    """Return what a `framework_file` records, if anything; ``text`` is searched and never run."""
    row = framework_file(path)
    if row is None:
        return None
    for platform in (CUDA, ROCM, CPU):
        for pattern in row[platform]:
            match = re.search(pattern, text, re.MULTILINE)
            if match is None or (platform == CUDA and _says_no(row, text)):
                continue
            groups = match.groupdict()
            value = cuda_version(groups["digits"]) if groups.get("digits") else groups.get("version") or ""
            line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0].strip()
            quoted = line if len(line) <= 60 else match.group().strip()
            optional = platform == CUDA and bool(row.get("needs_runtime"))
            return Finding(
                platform, major_minor(value), "framework-file", f"{path}: {quoted}", row["family"], optional
            )
    return None


def _says_no(row: Row, text: str) -> bool:
    """Return whether the file denies in one line what it seems to say in another, as TensorFlow's does."""
    return bool(row.get("needs_runtime")) and any(re.search(p, text, re.MULTILINE) for p in row[CPU])


# --- packages ---

_NAME = re.compile(r"(?:^|-)cu(?:da)?(\d{2,3})(?:-(\d))?x?(?=$|-)")
_ROCM_NAME = re.compile(r"(?:^|-)rocm-?(\d+)?(?:-(\d+))?(?=$|-)")
_LOCAL = re.compile(r"(?:^|[^a-z])cu(?:da)?(\d{2,3})(?!\d)(?:\.(\d+))?")
_LOCAL_ROCM = re.compile(r"rocm(\d[\d.]*)")
_LOCAL_CPU = re.compile(r"(?:^|[.+])cpu(?:$|[.])")
_BUILD = re.compile(r"(?:^|_)cuda_?(\d{2,3})(?!\d)(?:\.(\d+))?")
_BUILD_ROCM = re.compile(r"(?:^|_)rocm_?(\d[\d.]*)?")
_BUILD_CPU = re.compile(r"(?:^|_)cpu(?=_|$)")


def from_package(package: Package) -> Iterator[Finding]:
    """Yield the findings in a package's name, version and build string."""
    toolkit = is_toolkit(package.name)
    runtime = next(
        (r for r in table("runtime") if r["kind"] == package.kind and named(package.name, r["packages"])), None
    )
    if runtime is not None:
        value = major_minor(_leading_version(package.version))
        if cuda_version(value.partition(".")[0]):
            yield Finding(CUDA, value, runtime["rule"], package.segment)
        return
    if toolkit:
        match = _NAME.search(normalized(package.name))
        if package.kind == "pypi" and match and (value := cuda_version(match[1])):
            yield Finding(CUDA, value, "wheel-library", package.segment)
        return
    yield from _from_name(package)
    if package.kind == "conda":
        yield from _from_build(package)
    else:
        yield from _from_local_version(package)


def _leading_version(version: str) -> str:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return match[0] if match else ""


def _from_name(package: Package) -> Iterator[Finding]:
    name = normalized(package.name)
    if match := _NAME.search(name):
        # cupy-cuda12x: any 12; dgl-cuda11.7: the dot became a dash
        if value := cuda_version(match[1], match[2] or ""):
            yield Finding(CUDA, value, "cuda-in-name", package.segment, family(package.name))
    elif match := _ROCM_NAME.search(name):
        digits = match[1] or ""
        value = f"{digits[0]}.{digits[1:]}" if len(digits) == 2 else ".".join(filter(None, (digits, match[2])))
        yield Finding(ROCM, value, "cuda-in-name", package.segment, family(package.name))


def _from_local_version(package: Package) -> Iterator[Finding]:
    local = package.version.partition("+")[2].lower()
    if match := _LOCAL.search(local):
        if value := cuda_version(match[1], match[2] or "" if len(match[1]) == 2 else ""):
            yield Finding(CUDA, value, "local-version", package.segment, family(package.name))
    elif match := _LOCAL_ROCM.search(local):
        yield Finding(ROCM, major_minor(match[1]), "local-version", package.segment, family(package.name))
    elif _LOCAL_CPU.search(local):
        yield Finding(CPU, "", "local-version", package.segment, family(package.name))


def _from_build(package: Package) -> Iterator[Finding]:
    if match := _BUILD.search(package.build):
        if value := cuda_version(match[1], match[2] or ""):
            yield Finding(CUDA, value, "conda-build", package.segment, family(package.name))
    elif match := _BUILD_ROCM.search(package.build):
        yield Finding(ROCM, major_minor(match[1] or ""), "conda-build", package.segment, family(package.name))
    elif _BUILD_CPU.search(package.build) and is_framework(package.name):
        yield Finding(CPU, "", "conda-build", package.segment, family(package.name))


_LOWER_BOUND = re.compile(r"(?:>=|==?|~=)?\s*(\d+(?:\.\d+)?)")
_LINKED_WITH = ("cuda-version", "cudatoolkit", "pytorch-cuda", "cuda-cudart")


def from_record(package: Package, depends: Iterable[str], constrains: Iterable[str]) -> Iterator[Finding]:
    """Yield the findings in a conda package's dependencies.

    Args:
        package: The package.
        depends: Its dependencies.
        constrains: Its constraints on packages that may be absent; only those on the driver count.
    """
    specs = [_split(text) for text in depends]
    bounds = {name: bound[1] for name, rest in specs if (bound := _LOWER_BOUND.match(rest))}
    linked = next((name for name in _LINKED_WITH if name in bounds), None)
    if linked is not None and not is_toolkit(package.name):
        source = f"{package.segment} depends on {linked} {bounds[linked]}"
        yield Finding(CUDA, bounds[linked], "conda-depends", source, family(package.name))
    drivers = [("depends on", text) for text in depends] + [("is constrained by", text) for text in constrains]
    for verb, text in drivers:
        name, rest = _split(text)
        if name == "__cuda" and (bound := _LOWER_BOUND.match(rest)):
            yield Finding(CUDA, bound[1], "conda-driver", f"{package.segment} {verb} {text}", family(package.name))


def _split(spec: str) -> tuple[str, str]:
    """Split a MatchSpec of a record into name and rest: "cuda-version >=12.6,<13", "cudatoolkit 11.8.*"."""
    match = re.match(r"[A-Za-z0-9_.\-]+", spec.strip())
    return (match[0], spec.strip()[match.end() :].strip()) if match else ("", "")


# --- libraries ---

_CUDART = re.compile(r"libcudart(?:[.-][0-9a-f]{8})?\.so\.(\d+)(?:\.(\d+))?((?:\.\d+)*)")


def cudart_version(name: str) -> str:
    """Return the CUDA version in a libcudart's file name or SONAME; "" for other names.

    It is 12 of libcudart.so.12, 12.4 of libcudart.so.12.4.127. All CUDA 11 has libcudart.so.11.0; up to 10.2 each
    minor version had its own.
    """
    match = _CUDART.fullmatch(posixpath.basename(name))
    if match is None:
        return ""
    major, minor, rest = match.groups()
    if minor is None or (int(major) >= 11 and not rest):
        return str(major)
    return f"{major}.{minor}"


def from_library(path: str, elf: Elf, package: Package | None) -> Iterator[Finding]:
    """Yield the findings in a library: that it is a CUDA runtime, or that it can't be loaded without one.

    Args:
        path: The path of the library in the environment.
        elf: Its headers.
        package: The package that owns it; None when no package does.
    """
    of_file = cudart_version(path)
    if value := max(of_file, cudart_version(elf.soname), key=len):
        yield Finding(CUDA, value, "runtime-file", path)
        return
    name = package.name if package is not None else path
    if package is not None and is_toolkit(name):
        return
    for needed in elf.needed:
        if value := cudart_version(needed):
            yield Finding(CUDA, value, "linked", f"{path} needs {needed}", family(name), optional=True)
        elif re.match(r"libamdhip64\.so\.(\d+)", needed):
            version = needed.rpartition(".")[2]
            yield Finding(ROCM, version, "linked", f"{path} needs {needed}", family(name), optional=True)
