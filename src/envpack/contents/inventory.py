"""The packages of an environment with their dependencies, from the metadata that conda and pip left in it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envpack.prefix.owners.pypi import distribution_package, metadata_folder, metadata_folders, read_headers
from envpack.runtime.errors import PackError
from envpack.runtime.format.manifest import Manifest, Package, PathsTable
from envpack.runtime.fs.json_text import json_value

_MACHINES = {"64": "x86_64"}
"""``platform_machine`` of PEP 508 by the architecture of a subdir, where they differ."""


@dataclass(frozen=True)
class Distribution:
    """A distribution of PyPI's kind, wherever it came from.

    Attributes:
        package: Its name, version, origin and license.
        requires: Canonical names of the distributions that it requires in this environment.
        documents: The CycloneDX documents in its ``.dist-info/sboms`` (PEP 770), of libraries in the wheel.
    """

    package: Package
    requires: frozenset[str] = frozenset()
    documents: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Return its canonical name (packaging.python.org, name normalization)."""
        return canonicalize_name(self.package.name)


@dataclass(frozen=True)
class Installed:
    """A package of an environment.

    Attributes:
        package: The package, as its manifest states it.
        depends: Names of the conda packages that it depends on, virtual packages left out.
        distributions: The distributions among its files: of a conda package, those that pip lists.
        modified: Its files that are not as published.
    """

    package: Package
    depends: frozenset[str]
    distributions: tuple[Distribution, ...]
    modified: tuple[str, ...] = ()


def metadata_paths(table: PathsTable) -> set[str]:
    """Return the paths of the files that `inventory` reads."""
    paths = [record.path for record in table if record.type == "file"]
    folders = set(metadata_folders(paths))
    names = ("METADATA", "PKG-INFO", "direct_url.json")
    found = {path for path in paths if path.startswith("conda-meta/") and path.endswith(".json")}
    for path in paths:
        folder = metadata_folder(path)
        if folder in folders and (
            path == folder or posixpath.basename(path) in names or path.startswith(f"{folder}/sboms/")
        ):
            found.add(path)
    return found


def inventory(manifest: Manifest, table: PathsTable, files: Mapping[str, bytes]) -> list[Installed]:
    """Return the packages of an environment, in the order of its manifest.

    Args:
        manifest: The manifest of the environment.
        table: Its paths table.
        files: The bytes of `metadata_paths`, by path.

    Raises:
        PackError: A conda record is broken.
    """
    marked = _environment(manifest)
    found = {
        id: [
            _Read(folder, [path for path in inside if path in files], files)
            for folder, inside in _folders(record.path for record in records).items()
        ]
        for id, records in table.segments.items()
    }
    extras = _extras([read for reads in found.values() for read in reads], marked)
    depends = dict(_depends(files))
    modified = set(manifest.changes.modified)

    def installed(package: Package) -> Installed:
        paths = {record.path for record in table.segments.get(package.segment, ())}
        return Installed(
            package,
            depends.get((package.name, package.version, package.build), frozenset()),
            _once(read.distribution(marked, extras.get(read.name, ())) for read in found.get(package.segment, ())),
            tuple(sorted(paths & modified)),
        )

    return [installed(package) for package in manifest.packages]


def _once(distributions: Iterable[Distribution]) -> tuple[Distribution, ...]:
    """Return each distribution once: there may be two directories with metadata of one, ``.dist-info`` before the
    ``.egg-info`` of an older installer."""
    found: dict[tuple[str, str], Distribution] = {}
    for one in distributions:
        found.setdefault((canonicalize_name(one.package.name), one.package.version), one)
    return tuple(found.values())


def _folders(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the metadata folders among some paths, with the paths in each."""
    every = list(paths)
    found: dict[str, list[str]] = {folder: [] for folder in metadata_folders(every)}
    for path in every:
        folder = metadata_folder(path)
        if folder in found:
            found[folder].append(path)
    return found


class _Read:
    """The metadata of a distribution before its markers are evaluated."""

    def __init__(self, folder: str, inside: Collection[str], files: Mapping[str, bytes]) -> None:
        headers = read_headers(folder, inside, files.__getitem__)
        self._package = distribution_package(folder, inside, files.__getitem__, headers)
        self._documents = tuple(_documents(folder, inside, files))
        self.name = canonicalize_name(self._package.name)
        self.requirements = tuple(_requirements(headers.get_all("Requires-Dist", [])))

    def distribution(self, marked: Mapping[str, str], extras: Collection[str]) -> Distribution:
        needed = (needed for needed in self.requirements if _applies(needed, marked, extras))
        names = frozenset(canonicalize_name(requirement.name) for requirement in needed)
        return Distribution(self._package, names - {self.name}, self._documents)


def _requirements(values: Iterable[object]) -> Iterator[Requirement]:
    for value in values:
        with suppress(InvalidRequirement):  # of before PEP 508, which no installer resolves any more
            yield Requirement(str(value))


def _applies(requirement: Requirement, marked: Mapping[str, str], extras: Collection[str]) -> bool:
    if requirement.marker is None:
        return True
    try:
        return any(requirement.marker.evaluate({**marked, "extra": extra}) for extra in ("", *sorted(extras)))
    except (ValueError, KeyError):  # what can't be compared; conda does not evaluate the markers of its packages
        return True


def _extras(reads: Collection[_Read], marked: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the extras that distributions require of others, by canonical name."""
    found: dict[str, set[str]] = {}
    size = -1
    while size != (size := sum(map(len, found.values()))):  # an extra may require an extra
        for read in reads:
            for requirement in read.requirements:
                if requirement.extras and _applies(requirement, marked, found.get(read.name, ())):
                    found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


def _environment(manifest: Manifest) -> dict[str, str]:
    """Return the variables of markers (PEP 508) for the environment's interpreter and platform."""
    system, _, architecture = manifest.subdir.partition("-")
    text = next((package.version for package in manifest.packages if package.name == "python"), "")
    try:
        release = Version(text).release
    except InvalidVersion:
        release = (3,)
    full = ".".join(map(str, release))
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": _MACHINES.get(architecture, architecture),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system.capitalize(),
        "platform_version": "",
        "python_full_version": full,
        "python_version": ".".join(map(str, release[:2])),
        "sys_platform": system,
    }


def _depends(files: Mapping[str, bytes]) -> Iterator[tuple[tuple[str, str, str], frozenset[str]]]:
    """Yield name, version and build of each conda package, with the names of those that it depends on."""
    for path, data in files.items():
        if not path.startswith("conda-meta/"):
            continue
        try:
            document = json_value(data)
            key = (document["name"], document["version"], document["build"])
            names = dependency_names(document.get("depends") or ())
        except (ValueError, LookupError, TypeError, AttributeError) as problem:
            raise PackError(f"{path} is no record of a conda package: {problem}") from None
        yield key, names


_BEHIND_NAME = re.compile(r"[\s=<>!~\[;,|(]")
"""What may follow a name in a MatchSpec of conda."""


def dependency_names(depends: Iterable[str]) -> frozenset[str]:
    """Return the names of packages in conda's "depends", virtual packages left out."""
    specs = [_BEHIND_NAME.split(spec.strip(), maxsplit=1)[0] for spec in depends if spec.strip()]
    return frozenset(spec.rpartition("::")[2] for spec in specs if not spec.startswith("__"))


def _documents(folder: str, inside: Iterable[str], files: Mapping[str, bytes]) -> Iterator[Mapping[str, Any]]:
    for path in inside:
        if path.startswith(f"{folder}/sboms/"):
            try:
                document = json_value(files[path])
            except ValueError:
                continue
            if isinstance(document, dict) and document.get("bomFormat") == "CycloneDX":
                yield document
