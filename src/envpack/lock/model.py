"""The exact packages of an environment, and their file in the lock format of rattler and pixi."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envpack.lock.locations import parse_location
from envpack.lock.target import virtual_package_texts
from envpack.runtime.errors import DestinationError, SpecError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import check_links
from envpack.runtime.fs.temporary import new_folder, replace_file
from envpack.runtime.transport.redact import without_secrets
from envpack.spec.credentials import without_credentials
from envpack.spec.model import EnvSpec, as_name
from envpack.spec.nodes import check_depth, read_text
from envpack.spec.pip_lines import parse_line

if TYPE_CHECKING:
    from rattler import RepoDataRecord
    from rattler.lock import LockedPackage, LockFile, PypiLockedPackage

_HEADER = "# envpack: "
"""The start of the comment in a lock file that holds the spec as one line of JSON, so that the lock alone is
enough to build. pixi and rattler ignore it as a comment.
"""

ENVIRONMENT = "default"
"""The environment of the lock files that envpack writes: the one pixi uses when none is named."""

_NO_VERSION = "0"
"""The version written for a folder: the format requires one, and only a build of the folder gives it."""


@dataclass(frozen=True)
class LockedPypi:
    """One distribution from PyPI, another index, a URL, a repository or a folder.

    Attributes:
        name: The normalised name.
        version: The version, "" when unknown.
        location: A URL (``https:``, ``file:``, ``git+...@commit``), with ``#subdirectory=`` where the project is
            not at its top, or the absolute path of a folder.
        sha256: In hexadecimal; "" for folders and repositories, and where the source of the lock gives none.
    """

    name: str
    version: str
    location: str
    sha256: str = ""

    @property
    def is_wheel(self) -> bool:
        return urlsplit(self.location).path.endswith(".whl")

    @property
    def is_archive(self) -> bool:
        """Return whether it is a wheel or a source distribution, not a folder or a repository."""
        return bool(self.sha256) or self.is_wheel

    @property
    def file_name(self) -> str:
        return unquote(urlsplit(self.location).path.rsplit("/", 1)[-1])


@dataclass(frozen=True)
class LockedPlatform:
    """The packages of one platform: conda packages in the order of their names, then those of pip."""

    conda: tuple[RepoDataRecord, ...]
    pypi: tuple[LockedPypi, ...] = ()

    def record(self, name: str) -> RepoDataRecord | None:
        """Return the conda package with this name, None when there is none."""
        return next((record for record in self.conda if record.name.normalized == name), None)


@dataclass(frozen=True)
class Lock:
    """An environment resolved for one or more platforms.

    Attributes:
        spec: The spec; only a name, where the lock was written by another tool.
        channels: The URLs of the channels in order of priority.
        platforms: The packages by platform.
        spec_digest: The `EnvSpec.digest` of the spec the lock was made from, "" when unknown.
        refused: Why a platform of the file can't be built, by its name; it is not in ``platforms``.
    """

    spec: EnvSpec
    channels: tuple[str, ...]
    platforms: Mapping[str, LockedPlatform] = field(default_factory=dict)
    spec_digest: str = ""
    refused: Mapping[str, SpecError] = field(default_factory=dict, compare=False)

    def platform(self, name: str) -> LockedPlatform:
        """Return the packages for one platform.

        Raises:
            SpecError: The lock does not hold this platform, or it can't be built.
            BuildError: Packages of a conda-lock file can't be found in their channel.
        """
        if name in self.refused:
            raise self.refused[name]
        if name not in self.platforms:
            raise SpecError(
                f"the lock of {self.spec.name} is for {', '.join(self.platforms) or 'no platform'}, not {name}",
                hint=f"Lock again with --platform {name}.",
            )
        return self.platforms[name]

    @property
    def only_platform(self) -> str | None:
        """The platform of a lock for a single one, else None."""
        names = [*self.platforms, *self.refused]
        return names[0] if len(names) == 1 else None


def write_lock(lock: Lock, path: Path) -> bool:
    """Write ``lock`` in the format of rattler and pixi, by atomic replace.

    Paths of folders are stored relative to the file. Credentials in URLs are left out: a lock is committed.

    Returns:
        Whether there were credentials, which a build from the lock then needs from elsewhere.
    """
    from rattler.lock import LockChannel, LockFile, LockPlatform

    platforms = {
        name: LockPlatform(name, virtual_packages=virtual_package_texts(name, lock.spec.requires))
        for name in sorted(lock.platforms)
    }
    file = LockFile(list(platforms.values()))
    file.set_channels(ENVIRONMENT, [LockChannel(url) for url in lock.channels])
    for name, platform in platforms.items():
        for record in lock.platforms[name].conda:
            file.add_conda_package(ENVIRONMENT, platform, record)
        for package in lock.platforms[name].pypi:
            location = _stored_location(package, path.absolute().parent)
            version = package.version or _NO_VERSION
            file.add_pypi_package(ENVIRONMENT, platform, package.name, version, location)
    header = {"spec": lock.spec.as_dict(), "digest": lock.spec_digest}
    stated = f"{_HEADER}{json.dumps(header, sort_keys=True, ensure_ascii=True)}\n"
    check_links(path.parent)
    try:
        with new_folder(path) as folder:
            file.to_path(folder / "lock")
            stated += read_file(folder / "lock").decode("utf-8")
        text = without_credentials(stated)
        replace_file(path, text.encode(), durable=False)
    except OSError as problem:
        raise DestinationError(f"can't write {path}: {problem.strerror}") from None
    return text != stated


def _stored_location(package: LockedPypi, folder: Path) -> str:
    if package.location.startswith("/"):
        relative = os.path.relpath(package.location, folder)
        return relative if relative.startswith(".") else f"./{relative}"
    if not package.sha256:
        return package.location
    separator = "&" if "#" in package.location else "#"
    return f"{package.location}{separator}sha256={package.sha256}"


def read_lock(path: Path, environment: str | None = None) -> Lock:
    """Read a lock that envpack, pixi or rattler wrote; see `parse_lock`."""
    return parse_lock(read_text(path, "lock"), path, environment)


def parse_lock(text: str, path: Path, environment: str | None = None) -> Lock:
    """Return the lock that a file contains.

    Args:
        text: The content of the file.
        path: The file, for messages and for relative paths in it.
        environment: The name of the environment; by default the only one, else "default".

    Raises:
        SpecError: The file is not a valid lock, or has no such environment.
    """
    file = _parsed(text, path)
    environments = dict(file.environments())
    environment = environment or (next(iter(environments)) if len(environments) == 1 else ENVIRONMENT)
    if environment not in environments:
        raise SpecError(
            f"{path} has no environment {environment!r}",
            hint=f"Choose one with --environment: {', '.join(sorted(environments)) or 'there is none'}.",
        )
    spec, digest = _header(text, path)
    by_name = {
        platform.name: (str(platform.subdir), packages)
        for platform, packages in environments[environment].packages_by_platform().items()
    }
    found: dict[str, LockedPlatform | SpecError] = {}
    for name, (subdir, packages) in by_name.items():
        if name == subdir or (subdir not in by_name and subdir not in found):
            found[subdir] = _read_platform(packages, path)
        elif subdir not in by_name:
            found[subdir] = SpecError(
                f"{path} has several platforms with the subdir {subdir}, and none is called {subdir}",
                hint="Install the environment with pixi, and run 'envpack pack' in a 'pixi shell'.",
            )
    platforms = {name: packages for name, packages in found.items() if isinstance(packages, LockedPlatform)}
    refused = {name: error for name, error in found.items() if isinstance(error, SpecError)}
    channels = tuple(str(channel) for channel in environments[environment].channels())
    return Lock(spec or named_after(path, environment), channels, platforms, digest, refused)


def _parsed(text: str, path: Path) -> LockFile:
    """Return the lock as rattler reads it: rattler requires a file."""
    from rattler.exceptions import ParseCondaLockError
    from rattler.lock import LockFile

    check_depth(text, str(path))
    with new_folder(Path(tempfile.gettempdir(), "lock")) as folder:
        (folder / "lock").write_text(text, encoding="utf-8")
        try:
            return LockFile.from_path(folder / "lock")
        except OSError as error:
            raise SpecError(f"the lock {path} can't be read: {without_secrets(str(error))}") from None
        except ParseCondaLockError as error:
            reason = without_secrets(str(error))
            raise SpecError(f"{path} is not a lock file in a known format: {reason}") from None


def _read_platform(packages: Iterable[LockedPackage], path: Path) -> LockedPlatform | SpecError:
    """Return the packages of one platform, or why it can't be built, which concerns only that platform."""
    from rattler.lock import CondaLockedBinaryPackage, PypiLockedPackage

    conda, pypi = [], []
    for package in packages:
        if isinstance(package, CondaLockedBinaryPackage):
            conda.append(package.repo_data_record())
        elif isinstance(package, PypiLockedPackage):
            found = _read_pypi(package, path)
            if isinstance(found, SpecError):
                return found
            pypi.append(found)
        else:
            location = without_secrets(package.location)
            return SpecError(
                f"{path}: {package.name} is a source package ({location}), which envpack can't build",
                hint="Build it, add it to a channel, and lock again.",
            )
    conda.sort(key=lambda record: record.name.normalized)
    pypi.sort(key=lambda package: package.name)
    return LockedPlatform(tuple(conda), tuple(pypi))


def _header(text: str, path: Path) -> tuple[EnvSpec | None, str]:
    if not text.startswith(_HEADER):
        return None, ""
    try:
        header = json_value(text.split("\n", 1)[0][len(_HEADER) :])
        json.dumps(header, ensure_ascii=False).encode("utf-8")  # fails for half of a pair of surrogates
        spec = EnvSpec.from_dict(header["spec"], source=str(path), directory=path.parent)
        return spec, str(header["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{path}:1: the line '{_HEADER.strip()} ...' is damaged ({error})",
            hint="Lock again, or delete the line to build without the spec's settings.",
        ) from None


_NAMELESS = ("pixi", "conda-lock", "explicit", "")


def named_after(path: Path, environment: str = ENVIRONMENT) -> EnvSpec:
    """Return a spec with a name from the file or, for a pixi.lock, its folder: the lock itself holds no name."""
    own = path.stem if path.suffix == ".lock" else path.name.split(".")[0]
    names = map(as_name, (own, path.absolute().parent.name))
    name = next((name for name in names if name not in _NAMELESS), "environment")
    named = name if environment == ENVIRONMENT else f"{name}-{environment}"
    return EnvSpec(name=named, source=str(path), directory=path.parent)


def _read_pypi(package: PypiLockedPackage, path: Path) -> LockedPypi | SpecError:
    try:
        location, sha256 = parse_location(package.location, path.parent)
    except ValueError as error:
        return SpecError(f"{path}: {package.name}: {error}", hint="Lock again.")
    hashes = package._package.hashes  # rattler's own `hashes` fails where a package has none
    if not sha256 and hashes is not None and hashes.sha256:
        sha256 = hashes.sha256.hex()
    found = LockedPypi(package.name, package.version or "", location, sha256)
    return found if found.is_archive else replace(found, version=_built_version(found.version))


def locked_requirement(text: str, folder: Path) -> LockedPypi:
    """Return the package of a requirement ``NAME @ URL``, with a hash in the URL or behind it.

    Args:
        text: The requirement.
        folder: The folder that relative paths start at.

    Raises:
        ValueError: It has another form.
    """
    line = next(iter(parse_line(text)), None)
    if line is None or not line.requirement:
        raise ValueError("expected a requirement NAME @ URL")
    requirement = Requirement(line.requirement)
    if requirement.url is None:
        raise ValueError("expected NAME @ URL; lock again with 'conda-lock lock --kind lock', which writes URLs")
    location, sha256 = parse_location(requirement.url, folder)
    stated = next((text.partition(":")[2] for text in line.hashes if text.startswith("sha256:")), "")
    found = LockedPypi(canonicalize_name(requirement.name), "", location, sha256 or stated)
    return replace(found, version=_version_in(found.file_name))


def _version_in(file_name: str) -> str:
    """Return the version in the name of a wheel or a source distribution, "" where it has none."""
    for parse in (parse_wheel_filename, parse_sdist_filename):
        with suppress(ValueError):
            return str(parse(file_name)[1])
    return ""


def _built_version(stated: str) -> str:
    """Return the version of a folder or a repository: "" for rattler's '<dynamic>' and for `_NO_VERSION`."""
    try:
        Version(stated)
    except InvalidVersion:
        return ""
    return "" if stated == _NO_VERSION else stated
