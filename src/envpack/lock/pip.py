"""The resolution of a spec's pip section to exact files, by ``uv pip compile``."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envpack.lock.included_files import section_lines
from envpack.lock.locations import with_subdirectory
from envpack.lock.model import LockedPypi
from envpack.lock.stated_hashes import StatedHashes
from envpack.lock.target import glibc_version
from envpack.lock.uvtool import build_settings, index_arguments, run_uv
from envpack.runtime.errors import BuildError
from envpack.runtime.fs.temporary import new_folder
from envpack.runtime.report import Reporter
from envpack.spec.model import EnvSpec
from envpack.spec.pip_lines import PipLine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
_UV_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)  # manylinux_2_N that --python-platform knows
_OLD_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600, legacy aliases


@dataclass(frozen=True)
class BuildEnvironment:
    """An environment with the conda packages of a spec, for builds from source.

    Attributes:
        python: Its interpreter.
        activation: The variables that its activation sets.
    """

    python: Path
    activation: Mapping[str, str]


def resolve_pip(
    spec: EnvSpec,
    platform: str,
    conda: Sequence[RepoDataRecord],
    *,
    index_url: str | None = None,
    cache_dir: Path | None = None,
    environment: BuildEnvironment | None = None,
    reporter: Reporter | None = None,
) -> tuple[LockedPypi, ...]:
    """Return the exact files of the pip section for ``platform``, sorted by name.

    The Python packages of conda stay: they constrain the resolution to their versions and are left out of the
    result, unless the section itself requires another version.

    Args:
        spec: The spec.
        platform: The conda subdir to resolve for.
        conda: The conda packages of that platform.
        index_url: The package index that replaces the spec's.
        cache_dir: uv's cache, None for its own.
        environment: The environment that builds from source run in, None for one that uv finds.
        reporter: Shows notes and warnings.

    Raises:
        BuildError: There is no solution, no Python, or no file for the target.
    """
    reporter = reporter or Reporter()
    lines = section_lines(spec)
    python = next((str(record.version) for record in conda if record.name.normalized == "python"), None)
    if python is None:
        raise BuildError(
            f"{spec.name} has a pip section but no Python to install it into",
            hint="Add python to the dependencies.",
        )
    installed = conda_distributions(conda)
    replaced = replaced_by_pip(lines, installed)
    for name in sorted(replaced):
        reporter.note(f"pip replaces {name} {installed[name]} of conda, as the pip section requires")
    constraints = {name: version for name, version in installed.items() if name not in replaced}
    machine, (_, glibc_minor) = _MACHINES[platform], glibc_version(spec.requires)
    uv_minor = next((known for known in _UV_GLIBC if known <= glibc_minor), _UV_GLIBC[-1])
    target = ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_{uv_minor}"]
    options = [*target, *_options(lines), *index_arguments(lines, index_url, spec.directory)]
    answer = _compile(spec, options, constraints, cache_dir, environment)
    tags = wheel_tags(python, machine, glibc_minor)
    stated = StatedHashes.of(lines, spec.directory)
    packages = [
        _locked(stated.allowed(package), tags, spec.directory.absolute())
        for package in answer.get("packages", [])
        if canonicalize_name(package["name"]) not in constraints
    ]
    for package in packages:
        if not package.sha256 and package.is_archive:
            reporter.warn(f"the index gives no hash for {package.name} {package.version}")
    return tuple(sorted(packages, key=lambda package: package.name))


def _options(lines: Iterable[PipLine]) -> list[str]:
    """Return uv's options for those of the pip section that are about the resolution."""
    lines = list(lines)
    options = [line.option for line in lines if line.option in ("--no-build-isolation", "--no-deps")]
    options += build_settings(lines)
    if any(line.option == "--pre" for line in lines):
        options += ["--prerelease", "allow"]
    return options


def _compile(
    spec: EnvSpec,
    options: Sequence[str],
    constraints: Mapping[str, str],
    cache_dir: Path | None,
    environment: BuildEnvironment | None,
) -> dict[str, Any]:
    """Run ``uv pip compile`` on the pip section and return the pylock.toml (PEP 751)."""
    requirements = "".join(f"{text}\n" for line in section_lines(spec) for text in line.for_uv)
    pins = [f"{name}=={version}\n" for name, version in sorted(constraints.items()) if _is_version(version)]
    with new_folder(Path(tempfile.gettempdir(), "lock")) as scratch:
        file = scratch / "conda.txt"
        file.write_text("".join(pins))
        if environment is not None:
            options = [*options, "--python", str(environment.python)]
        command = ["pip", "compile", "-", "--format", "pylock.toml", "--no-header", "--no-annotate", "--quiet"]
        answer = run_uv(
            [*command, *options, "--constraints", str(file)],
            f"the pip section of {spec.name} can't be resolved",
            cwd=spec.directory.absolute(),
            cache_dir=cache_dir,
            stdin=requirements,
            activation=environment.activation if environment else None,
        )
    return tomllib.loads(answer)


def conda_distributions(conda: Iterable[RepoDataRecord]) -> dict[str, str]:
    """Return the Python distributions in conda packages: the version by normalised PyPI name.

    A conda package counts when it depends on Python. ``conda-pypi.json`` lists the names that differ.
    """
    table: Mapping[str, Mapping[str, str]] = json.loads(
        resources.files("envpack.lock").joinpath("conda-pypi.json").read_text(encoding="utf-8")
    )
    found: dict[str, str] = {}
    for record in conda:
        name = record.name.normalized
        if any(re.match(r"python(?:_abi)?(?:[\s=<>!~\[]|$)", depend) for depend in record.depends):
            found[canonicalize_name(table["names"].get(name, name))] = str(record.version)
    return found


def replaced_by_pip(lines: Iterable[PipLine], installed: Mapping[str, str]) -> set[str]:
    """Return the names that the pip section requires in another version or from another source than conda's."""
    replaced = set()
    for line in lines:
        if line.name not in installed:
            continue
        try:
            requirement = Requirement(line.requirement)
        except InvalidRequirement:
            continue
        version = installed[line.name]
        fits = _is_version(version) and requirement.specifier.contains(version, prereleases=True)
        if requirement.url or (requirement.specifier and not fits):
            replaced.add(line.name)
    return replaced


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def wheel_tags(python: str, machine: str, glibc_minor: int) -> dict[Tag, int]:
    """Return the tags of wheels that run on the target with their rank, 0 for the best, by PEP 425 and PEP 600.

    Args:
        python: The version of Python.
        machine: The processor architecture, such as "x86_64".
        glibc_minor: The minor version of glibc 2.
    """
    version = tuple(int(part) for part in python.split(".")[:2])
    interpreter = f"cp{version[0]}{version[1]}"
    oldest = 5 if machine == "x86_64" else 17
    platforms = []
    for minor in range(glibc_minor, oldest - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        if minor in _OLD_TAGS:
            platforms.append(f"{_OLD_TAGS[minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    tags = [*cpython_tags(version, [interpreter], platforms), *compatible_tags(version, interpreter, platforms)]
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def _locked(package: Mapping[str, Any], tags: Mapping[Tag, int], root: Path) -> LockedPypi:
    """Return a package from one ``[[packages]]`` of a pylock.toml (PEP 751); relative paths start at ``root``."""
    name, version = canonicalize_name(package["name"]), package.get("version", "")
    if "directory" in package:
        return LockedPypi(name, version, str(_resolved(root, package["directory"])))
    if "vcs" in package:
        vcs = package["vcs"]
        repository = vcs.get("url") or _resolved(root, vcs).as_uri()
        commit = f"{vcs['type']}+{repository}@{vcs['commit-id']}"
        return LockedPypi(name, version, with_subdirectory(commit, vcs.get("subdirectory", "")))
    archive = package.get("archive") or _best_wheel(package.get("wheels", []), tags) or package.get("sdist")
    if archive is None:
        raise BuildError(
            f"{name} {version} has no wheel for the target and no source distribution",
            hint="Choose another version, or require a newer glibc in 'requires:'.",
        )
    location = archive.get("url") or Path(root, archive["path"]).resolve().as_uri()
    location = with_subdirectory(location, archive.get("subdirectory", ""))
    return LockedPypi(name, version, location, archive.get("hashes", {}).get("sha256", ""))


def _resolved(root: Path, source: Mapping[str, Any]) -> Path:
    return Path(root, source["path"], source.get("subdirectory", "")).resolve()


def _best_wheel(wheels: Sequence[Mapping[str, Any]], tags: Mapping[Tag, int]) -> Mapping[str, Any] | None:
    ranked = []
    for wheel in wheels:
        file = wheel.get("name") or str(wheel.get("url") or wheel["path"]).rsplit("/", 1)[-1]
        _, _, build, own = parse_wheel_filename(file.replace("%2B", "+").replace("%2b", "+"))
        ranks = [tags[tag] for tag in own if tag in tags]
        if ranks:
            ranked.append((-min(ranks), build, file, wheel))
    return max(ranked, key=lambda it: it[:3])[3] if ranked else None
