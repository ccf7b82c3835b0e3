"""The exact packages of an environment, and their file in the lock format of rattler and pixi."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from envpack.lock.target import virtual_package_texts
from envpack.runtime.errors import DestinationError, SpecError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import check_links
from envpack.runtime.fs.temporary import new_folder, replace_file
from envpack.spec import EnvSpec
from envpack.spec.nodes import read_text

if TYPE_CHECKING:
    from rattler import RepoDataRecord

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
        location: A URL (``https:``, ``file:``, ``git+...@commit``) or the absolute path of a folder.
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
    """

    spec: EnvSpec
    channels: tuple[str, ...]
    platforms: Mapping[str, LockedPlatform] = field(default_factory=dict)
    spec_digest: str = ""

    def platform(self, name: str) -> LockedPlatform:
        """Return the packages for one platform.

        Raises:
            SpecError: The lock does not hold this platform.
        """
        if name not in self.platforms:
            raise SpecError(
                f"the lock of {self.spec.name} is for {', '.join(self.platforms) or 'no platform'}, not {name}",
                hint=f"Lock again with --platform {name}.",
            )
        return self.platforms[name]


def write_lock(lock: Lock, path: Path) -> None:
    """Write ``lock`` in the format of rattler and pixi, by atomic replace.

    Paths of folders are stored relative to the file.
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
    check_links(path.parent)
    try:
        with new_folder(path) as folder:
            file.to_path(folder / "lock")
            body = read_file(folder / "lock").decode("utf-8")
        text = f"{_HEADER}{json.dumps(header, sort_keys=True, ensure_ascii=True)}\n{body}"
        replace_file(path, text.encode(), durable=False)
    except OSError as problem:
        raise DestinationError(f"can't write {path}: {problem.strerror}") from None


def _stored_location(package: LockedPypi, folder: Path) -> str:
    if package.location.startswith("/"):
        relative = os.path.relpath(package.location, folder)
        return relative if relative.startswith(".") else f"./{relative}"
    return f"{package.location}#sha256={package.sha256}" if package.sha256 else package.location


def read_lock(path: Path, environment: str = ENVIRONMENT) -> Lock:
    """Read a lock that envpack, pixi or rattler wrote.

    Raises:
        SpecError: The file is not a valid lock, has no ``environment``, or holds conda packages to build from
            source.
    """
    from rattler.exceptions import ParseCondaLockError
    from rattler.lock import CondaLockedBinaryPackage, LockFile, PypiLockedPackage

    text = read_text(path, "lock")
    try:
        file = LockFile.from_path(path)
    except OSError as error:
        raise SpecError(f"the lock {path} can't be read: {error}") from None
    except ParseCondaLockError as error:
        raise SpecError(f"{path} is not a lock file in a known format: {error}") from None
    environments = dict(file.environments())
    if environment not in environments:
        raise SpecError(
            f"{path} has no environment {environment!r}",
            hint=f"It has: {', '.join(sorted(environments)) or 'none'}.",
        )
    spec, digest = _header(text, path)
    platforms = {}
    for platform, packages in environments[environment].packages_by_platform().items():
        conda, pypi = [], []
        for package in packages:
            if isinstance(package, CondaLockedBinaryPackage):
                conda.append(package.repo_data_record())
            elif isinstance(package, PypiLockedPackage):
                pypi.append(_read_pypi(package, path))
            else:
                raise SpecError(
                    f"{path}: {package.name} is a source package ({package.location}), which envpack can't build",
                    hint="Build it, add it to a channel, and lock again.",
                )
        conda.sort(key=lambda record: record.name.normalized)
        pypi.sort(key=lambda package: package.name)
        platforms[platform.name] = LockedPlatform(tuple(conda), tuple(pypi))
    channels = tuple(str(channel) for channel in environments[environment].channels())
    return Lock(spec or _named_after(path, environment), channels, platforms, digest)


def _header(text: str, path: Path) -> tuple[EnvSpec | None, str]:
    if not text.startswith(_HEADER):
        return None, ""
    try:
        header = json_value(text.split("\n", 1)[0][len(_HEADER) :])
        spec = EnvSpec.from_dict(header["spec"], source=str(path), directory=path.parent)
        return spec, str(header["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{path}:1: the line '{_HEADER.strip()} ...' is damaged ({error})",
            hint="Lock again, or delete the line to build without the spec's settings.",
        ) from None


def _named_after(path: Path, environment: str) -> EnvSpec:
    """Return a spec with a name from the file or, for a pixi.lock, its folder: the lock itself holds no name."""
    stem = path.stem if path.stem not in ("pixi", "conda-lock") else path.absolute().parent.name
    name = stem if environment == ENVIRONMENT else f"{stem}-{environment}"
    return EnvSpec(name=name or "environment", source=str(path), directory=path.parent)


def _read_pypi(package: object, path: Path) -> LockedPypi:
    from rattler.lock import PypiLockedPackage

    assert isinstance(package, PypiLockedPackage)
    location, _, fragment = package.location.partition("#")
    sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
    hashes = package._package.hashes  # rattler's own `hashes` fails where a package has none
    if not sha256 and hashes is not None and hashes.sha256:
        sha256 = hashes.sha256.hex()
    if "://" not in location:
        location = os.path.normpath(path.absolute().parent / location)
        if Path(location).is_file():
            location = Path(location).as_uri()
    elif location.startswith("git+") and fragment and not sha256:
        location = f"{location.split('?')[0]}@{fragment}"  # pixi's form: git+URL?rev=NAME#COMMIT
    version = "" if location.startswith("/") and package.version == _NO_VERSION else package.version
    return LockedPypi(package.name, version or "", location, sha256)
