"""The common needs of an environment's libraries: glibc, a CPU, a GPU; and which libraries count. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from envpack.prefix.needs.elf import Elf
from envpack.prefix.needs.evidence import CUDA, ROCM, cuda_version
from envpack.prefix.needs.fatbin import Targets
from envpack.prefix.needs.rules import Row, family, is_toolkit, table
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import Evidence, GpuCode


@dataclass(frozen=True)
class Library:
    """An ELF file of the environment.

    Attributes:
        path: Its path, relative to the prefix.
        elf: The data read from it.
        package: The package that owns it.
        targets: The targets of its GPU code; None without GPU code.
    """

    path: str
    elf: Elf
    package: Package | None = None
    targets: Targets | None = None

    @property
    def family(self) -> str:
        return family(self.package.name) if self.package else ""


# --- one library of several ---

_VARIANT = re.compile(r"(?P<stem>.+)[_-](?P<kind>cuda|rocm|hip|xpu|sycl)(?P<digits>\d{2,4})(?P<rest>\.so[\d.]*)")


@dataclass(frozen=True)
class Variants:
    """Libraries of which one is loaded, depending on the host.

    Such as libbitsandbytes_cuda118.so, libbitsandbytes_cuda126.so and libbitsandbytes_rocm70.so.

    Attributes:
        stem: The common beginning of their paths.
        by_version: Their paths, by (platform, version).
    """

    stem: str
    by_version: Mapping[tuple[str, str], str]

    def choice(self, platform: str, version: str) -> str:
        """Return the path of the variant that is loaded for a version; "" when there is none of its major version.

        It is the variant of that version, else the newest before it of the same major version, else the oldest
        after it. That is how bitsandbytes chooses (bitsandbytes/cextension.py).
        """
        target = _numbers(version)
        same = {_numbers(v): path for (p, v), path in self.by_version.items() if p == platform}
        same = {numbers: path for numbers, path in same.items() if numbers[:1] == target[:1]}
        before = [numbers for numbers in same if numbers <= target]
        return same[max(before) if before else min(same)] if same else ""

    def versions(self, platform: str) -> list[str]:
        return sorted((v for p, v in self.by_version if p == platform), key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def variants(paths: Iterable[str]) -> list[Variants]:
    """Return the groups of two or more libraries of a folder whose names differ only in platform and version."""
    groups: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for path in sorted(paths):
        folder, name = posixpath.split(path)
        match = _VARIANT.fullmatch(name)
        if match is None:
            continue
        digits = match["digits"]
        version = cuda_version(digits) if match["kind"] == CUDA else f"{digits[0]}.{digits[1:]}"
        stem = posixpath.join(folder, match["stem"])
        groups.setdefault((stem, match["rest"]), {})[match["kind"], version or digits] = path
    return [Variants(stem, members) for (stem, _), members in groups.items() if len(members) > 1]


def not_loaded(groups: Iterable[Variants], cuda: Evidence | None, rocm: Evidence | None) -> set[str]:
    """Return the paths of all variants except those that this environment loads.

    Args:
        groups: The groups of variants.
        cuda: The evidence of CUDA; None when there is none.
        rocm: The evidence of ROCm; None when there is none.
    """
    left_out: set[str] = set()
    for group in groups:
        chosen = group.choice(CUDA, cuda.value) if cuda else group.choice(ROCM, rocm.value) if rocm else ""
        left_out.update(path for path in group.by_version.values() if path != chosen)
    return left_out


def without_variant(groups: Iterable[Variants], cuda: Evidence | None) -> list[str]:
    """Return a sentence for each group that has no library for this CUDA."""
    return [
        f"{group.stem}* has libraries for CUDA {', '.join(group.versions(CUDA))}, but none for CUDA {cuda.value}"
        for group in groups
        if cuda and group.versions(CUDA) and not group.choice(CUDA, cuda.value)
    ]


# --- glibc and CPU ---

_GLIBC = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")
_ABI = {"GLIBC_ABI_DT_RELR": "2.36"}
"""Markers of glibc without a number in them: https://sourceware.org/glibc/wiki/Release/2.36."""


def glibc_floor(libraries: Iterable[Library]) -> Evidence | None:
    """Return the oldest glibc that all libraries can be loaded with, and the first file that needs it."""
    floor: tuple[int, ...] = ()
    found: list[tuple[str, str]] = []
    for library in libraries:
        for name in library.elf.versions:
            match = _GLIBC.fullmatch(name)
            version = _numbers(match[1] if match else _ABI.get(name, ""))
            if version > floor:
                floor, found = version, []
            if version and version == floor:
                found.append((library.path, name))
    if not found:
        return None
    path, name = min(found)
    others = len({path for path, _ in found}) - 1
    more = f", and {others} more" if others else ""
    return Evidence(".".join(map(str, floor)), f"{path} needs {name}{more}")


def unknown_markers(libraries: Iterable[Library]) -> dict[str, str]:
    """Return the markers of glibc that name no version, each with a file that needs it.

    Distributions add them to older glibcs, so that a host may or may not have them.
    """
    return {
        name: library.path
        for library in libraries
        for name in library.elf.versions
        if name.startswith("GLIBC_ABI_") and name not in _ABI
    }


_LEVEL = re.compile(r"_x86_64-microarch-level\s*(?:>=|==?|~=)?\s*([234])")
_ARCHSPEC = re.compile(r"__archspec(?:\s+|=)[^\s=]*(?:\s+|=)\*?(\w+)\*?")


def cpu_of_record(package: Package, depends: Iterable[str]) -> Evidence | None:
    """Return the x86-64 level that a conda package requires.

    The package that represents the level itself requires nothing: the newest that the build machine's CPU supports
    gets installed.
    """
    if package.name == "_x86_64-microarch-level":
        return None
    for spec in depends:
        level = ""
        if match := _LEVEL.match(spec):
            level = match[1]
        elif match := _ARCHSPEC.match(spec):
            levels = table("microarchitectures")
            level = next((key for key in "234" if match[1] in levels[key]), "")
        if level:
            return Evidence(f"x86-64-v{level}", f"{package.segment} depends on {spec}")
    return None


def cpu_of_libraries(libraries: Iterable[Library]) -> Evidence | None:
    """Return the highest x86-64 level that a library requires; the loader refuses it on a lower CPU."""
    marked = [library for library in libraries if library.elf.isa_level >= 2]
    if not marked:
        return None
    level = max(library.elf.isa_level for library in marked)
    path = min(library.path for library in marked if library.elf.isa_level == level)
    return Evidence(f"x86-64-v{level}", f"{path} is marked so (GNU_PROPERTY_X86_ISA_1_NEEDED)")


# --- GPU code ---


def gpu_code(libraries: Sequence[Library], left_out: set[str], users: frozenset[str], cuda: bool) -> list[GpuCode]:
    """Return the GPU code of every library that has some, sorted by path, with the main ones marked.

    Main are the libraries that rules.json names, of frameworks that use the CUDA found. If there are none, it is
    the one with the most GPU code that is neither NVIDIA's nor a variant that is not loaded. Without CUDA there is
    no main one.

    Args:
        libraries: All libraries of the environment.
        left_out: The paths of variants that are not loaded.
        users: The frameworks that use the CUDA found.
        cuda: Whether the environment needs CUDA.
    """
    with_code = [library for library in libraries if library.targets and library.targets.size]
    candidates = [library for library in with_code if library.path not in left_out] if cuda else []
    own = {library.path for library in candidates if not (library.package and is_toolkit(library.package.name))}
    main = {library.path for library in candidates if _is_named_main(library, users)}
    if not main:
        rest = [library for library in candidates if library.path in own]
        largest = max(rest, key=lambda library: (_size(library), library.path), default=None)
        main = {largest.path} if largest else set()
    return [
        GpuCode(
            library=library.path,
            package=library.package.segment if library.package else "",
            sass=library.targets.sass,
            ptx=library.targets.ptx,
            ptx_isa=library.targets.ptx_isa,
            main=library.path in main,
            stray=library.targets.stray,
            addon=library.path in own - main,
            ptx_isas=library.targets.ptx_isas,
        )
        for library in sorted(with_code, key=lambda library: library.path)
        if library.targets
    ]


def _size(library: Library) -> int:
    return library.targets.size if library.targets else 0


def _is_named_main(library: Library, users: frozenset[str]) -> bool:
    return any(_names(row, library.path, users) for row in table("main"))


def is_main(path: str, users: frozenset[str]) -> bool:
    """Return whether nothing runs where this library can't be loaded.

    It is the interpreter's, or a framework's main one, but not one that its framework does without, on the CPU.
    """
    if fnmatchcase(path, "lib/libpython*.so*"):
        return True
    return any(_names(row, path, users) and not row.get("falls_back") for row in table("main"))


def _names(row: Row, path: str, users: frozenset[str]) -> bool:
    return row["family"] in users and fnmatchcase(posixpath.basename(path), row["library"])
