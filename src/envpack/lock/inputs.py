"""Readers of files of other tools, each giving a Lock: ``@EXPLICIT`` lists, conda-lock files, pixi.lock."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from envpack.lock import rattler_async
from envpack.lock.locations import parse_location
from envpack.lock.model import Lock, LockedPlatform, LockedPypi, locked_requirement, parse_lock
from envpack.lock.project_files import find_spec, is_pixi_manifest, require_spec
from envpack.lock.solve import channel_failure
from envpack.lock.target import channel_names, current_platform
from envpack.lock.target import channels as channels_of
from envpack.runtime.errors import BuildError, SpecError, UsageError
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.transport.redact import split_url, without_secrets
from envpack.spec.model import PLATFORMS, EnvSpec
from envpack.spec.nodes import load, read_text
from envpack.spec.parse import parse_spec
from envpack.spec.pixi import parse_pixi

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})|(?:md5:)?([0-9a-fA-F]{32})")
_ARCHIVES = (".conda", ".tar.bz2")
_PIP = re.compile(r"# pip (?=[\w.-]+(?:\[[^]]*\])?\s*[@=])")


@dataclass(frozen=True)
class PackageUrl:
    """A conda package by its URL, with the hash its file must have.

    Attributes:
        url: The URL of the package.
        md5: In hexadecimal, "" when not given.
        sha256: In hexadecimal, "" when not given.
        where: The file and line it comes from, for messages.
    """

    url: str
    md5: str = ""
    sha256: str = ""
    where: str = ""

    @property
    def subdir(self) -> str:
        return self.url.rsplit("/", 2)[-2] if self.url.count("/") > 3 else ""

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def channel(self) -> str:
        return self.url.rsplit("/", 2)[0]


def load_input(path: Path, environment: str | None = None) -> EnvSpec | Lock:
    """Read a spec, or a lock in any known format, which is recognised by the content of the file.

    Args:
        path: The file, or a folder with an environment.yml. Of a pixi project without a lock, the manifest is
            read as a spec.
        environment: The environment of a pixi.lock; by default the only one, else "default".

    Raises:
        SpecError: The file has none of these formats or is not valid.
        UsageError: ``environment`` is given, and the file has no named environments.
        BuildError: Packages of an ``@EXPLICIT`` or conda-lock file can't be found in their channel.
    """
    if is_folder(path, follow=True):
        path = find_spec(path)
    text = read_text(path, "spec or lock")
    format_ = input_format(text)
    if format_ == "rattler":
        return parse_lock(text, path, environment)
    if environment:
        raise UsageError(
            f"{path} has no environments to choose from",
            hint="Run the command without --environment, which is for a pixi.lock.",
        )
    if format_ == "explicit":
        return explicit_lock(text, path)
    if format_ == "conda-lock":
        return conda_lock(text, path)
    if is_pixi_manifest(path, text):
        return parse_pixi(text, str(path))
    require_spec(path, text)
    return parse_spec(text, str(path))


_PIXI_VERSION = re.compile(r"^version: *[23]\b", re.MULTILINE)
"""The version of a pixi.lock before format 4, which has conda-lock's structure; conda-lock's own is 1."""


def input_format(text: str) -> str:
    """Return the format of a text: "rattler", "conda-lock", "explicit", or "spec" for all others."""
    if re.search(r"^@EXPLICIT\s*$", text, re.MULTILINE):
        return "explicit"
    keys = set(re.findall(r"^([A-Za-z_-]+):", text, re.MULTILINE))
    if {"version", "packages"} <= keys or ({"version", "package"} <= keys and _PIXI_VERSION.search(text)):
        return "rattler"
    if {"version", "package"} <= keys:
        return "conda-lock"
    return "spec"


def explicit_lock(text: str, path: Path) -> Lock:
    """Return the lock for an ``@EXPLICIT`` list (``conda list --explicit [--md5|--sha256]``).

    In one of ``conda-lock --kind explicit``, comments ``# pip NAME @ URL`` are packages, too
    (conda_lock/conda_lock.py, ``render_lockfile_for_platform``).
    """
    packages, pypi, errors = [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        line, where = line.strip(), f"{path}:{number}"
        if match := _PIP.match(line):
            try:
                pypi.append(locked_requirement(_expanded(line[match.end() :]), path.parent))
            except ValueError as error:
                errors.append(f"{where}: {without_secrets(str(error))}")
            continue
        if not line or line.startswith("#") or line == "@EXPLICIT":
            continue
        package = parse_package_url(line, where, path.absolute().parent)
        if package is None:
            line = without_secrets(line)
            errors.append(
                f"{where}: {line!r}, expected the URL of a .conda or .tar.bz2 package, optionally with #HASH"
            )
        else:
            packages.append(package)
    if errors:
        raise SpecError(errors[0], details=errors)
    platform = _platform(packages, path)
    pypi.sort(key=lambda package: package.name)
    locked = LockedPlatform(find_records(packages, platform), tuple(pypi))
    return Lock(_spec(path), _channels(packages), {platform: locked})


def parse_package_url(text: str, where: str, folder: Path) -> PackageUrl | None:
    """Parse ``URL[#md5|#sha256|#sha256:HEX]`` or the path of a package; return None when it is neither.

    Args:
        text: The text of one line.
        where: The file and line, for messages.
        folder: The folder that relative paths start at.
    """
    location, _, fragment = text.partition("#")
    match = _HEX.fullmatch(fragment)
    if not location.endswith(_ARCHIVES) or (fragment and match is None):
        return None
    with suppress(UsageError):
        split_url(location)
        return _package_url(location, match, where, folder)
    return None


def _package_url(location: str, match: re.Match[str] | None, where: str, folder: Path) -> PackageUrl:
    if "://" not in location:
        location = (folder / Path(location).expanduser()).resolve().as_uri()
    sha256, md5 = (match[1] or "", match[2] or "") if match else ("", "")
    return PackageUrl(location, md5.lower(), sha256.lower(), where)


def _platform(packages: Sequence[PackageUrl], path: Path) -> str:
    found = sorted({package.subdir for package in packages} - {"noarch"})
    if len(found) > 1 or (found and found[0] not in PLATFORMS):
        raise SpecError(f"{path} contains packages for {', '.join(found)}, expected one of {', '.join(PLATFORMS)}")
    return found[0] if found else current_platform()


def _channels(packages: Sequence[PackageUrl]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{package.channel}/" for package in packages))


def _spec(path: Path) -> EnvSpec:
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.name.split(".")[0]).strip("-.")
    if stem in ("conda-lock", "explicit", ""):
        stem = path.absolute().parent.name or "environment"
    return EnvSpec(name=stem, source=str(path), directory=path.parent)


def find_records(packages: Sequence[PackageUrl], platform: str) -> tuple[RepoDataRecord, ...]:
    """Return the full records of packages known by URL, from the index of their channel.

    A list of URLs does not hold what an installation needs: whether a package is noarch Python, and its
    dependencies.

    Raises:
        BuildError: A package is not in the index or has another hash, or the channel can't be read.
    """
    from rattler.exceptions import GatewayError, InvalidChannelError

    try:
        available = rattler_async.run(_query(packages, platform))
    except (GatewayError, InvalidChannelError) as error:
        raise channel_failure(str(error), _channels(packages)) from None
    records, errors = [], []
    for package in packages:
        record = available.get((package.subdir, package.file_name))
        if record is None:
            errors.append(f"{package.where}: {package.channel} does not list {package.file_name}")
            continue
        for algorithm, expected, actual in (
            ("md5", package.md5, record.md5),
            ("sha256", package.sha256, record.sha256),
        ):
            if expected and actual and actual.hex() != expected:
                errors.append(
                    f"{package.where}: {package.file_name} has {algorithm} {actual.hex()}, not {expected}"
                )
        record.url = package.url
        records.append(record)
    if errors:
        file = packages[0].where.rpartition(":")[0]
        raise BuildError(
            f"{len(errors)} of {len(packages)} packages in {file} do not match their channel",
            hint="Create the file again: its channel has removed or replaced these packages.",
            details=errors,
        )
    return tuple(sorted(records, key=lambda record: record.name.normalized))


async def _query(packages: Sequence[PackageUrl], platform: str) -> dict[tuple[str, str], RepoDataRecord]:
    from rattler import Gateway, MatchSpec, RepoDataRecord, Subdir

    gateway = Gateway(client=rattler_async.client())
    found: dict[tuple[str, str], RepoDataRecord] = {}
    indexed = []
    for package in packages:
        file = url_path(package.url)
        if file is not None and file.is_file() and not (file.parent / "repodata.json").exists():
            found[package.subdir, package.file_name] = await RepoDataRecord.from_package_archive(file)
        else:
            indexed.append(package)
    for channel in dict.fromkeys(package.channel for package in indexed):
        names = {_package_name(package) for package in indexed if package.channel == channel}
        answer = await gateway.query(
            [channel],
            [Subdir(platform), Subdir("noarch")],
            [MatchSpec(name) for name in sorted(names)],
            recursive=False,
        )
        for record in (record for records in answer for record in records):
            found[record.subdir, record.file_name] = record
    return found


def _package_name(package: PackageUrl) -> str:
    return unquote(package.file_name).rsplit("-", 2)[0].lower()


def conda_lock(text: str, path: Path) -> Lock:
    """Return the lock for a conda-lock.yml of the unified format: category main, every platform envpack knows.

    Format: https://github.com/conda/conda-lock, ``conda_lock/lockfile/v1/models.py``.
    """
    try:
        content = load(text, str(path))
        version, packages, metadata = content["version"], content["package"], content["metadata"]
        if version != 1:
            raise SpecError(f"{path} has conda-lock's format {version}, expected 1")
        urls = _conda_lock_channels(metadata.get("channels") or [], path.absolute().parent)
        main_packages = [package for package in packages if package.get("category", "main") == "main"]
        platforms = [name for name in metadata["platforms"] if name in PLATFORMS]
        if not platforms:
            raise SpecError(
                f"{path} is for {', '.join(metadata['platforms'])}, expected one of {', '.join(PLATFORMS)}"
            )
        return Lock(
            _spec(path),
            urls,
            {name: _conda_lock_platform(main_packages, name, path) for name in platforms},
        )
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SpecError(f"{path} is not a conda-lock file: {reason}") from None


def _conda_lock_channels(channels: Sequence[object], folder: Path) -> tuple[str, ...]:
    """Return the URLs of channels, which early files give as names, later ones as mappings with a URL or name."""
    names = [_expanded(channel["url"] if isinstance(channel, Mapping) else str(channel)) for channel in channels]
    return tuple(channel.base_url for channel in channels_of(channel_names(names), folder))


def _expanded(url: str) -> str:
    """Return a URL with the user's variables, by which conda-lock keeps passwords out of its file."""
    return os.path.expandvars(url)


def _conda_lock_platform(packages: Sequence[Mapping[str, Any]], platform: str, path: Path) -> LockedPlatform:
    conda, pypi, errors = [], [], []
    for package in packages:
        if package["platform"] != platform:
            continue
        hashes, name = package.get("hash") or {}, package["name"]
        where = f"{path}: {name}"
        if package["manager"] == "pip":
            try:
                location, stated = parse_location(_expanded(package["url"]), path.parent)
            except ValueError as error:
                errors.append(f"{where}: {error}")
                continue
            sha256 = "" if location.startswith("git+") else hashes.get("sha256") or stated
            pypi.append(LockedPypi(canonicalize_name(name), package["version"], location, sha256))
            continue
        parsed = parse_package_url(_expanded(package["url"]).partition("#")[0], where, path.absolute().parent)
        if parsed is None:
            errors.append(f"{where}: {without_secrets(package['url'])!r} is not the URL of a conda package")
        else:
            conda.append(
                PackageUrl(parsed.url, hashes.get("md5", ""), hashes.get("sha256", ""), f"{where}:{platform}")
            )
    if errors:
        raise SpecError(errors[0], details=errors)
    return LockedPlatform(
        find_records(conda, platform) if conda else (), tuple(sorted(pypi, key=lambda package: package.name))
    )


def explicit_text(platform: LockedPlatform, name: str) -> str:
    """Return the ``@EXPLICIT`` list of a platform's conda packages, for conda, mamba and micromamba."""
    lines = [f"# platform: {name}", "@EXPLICIT"]
    for record in platform.conda:
        digest = record.md5.hex() if record.md5 else ""
        lines.append(f"{record.url}#{digest}" if digest else record.url)
    return "\n".join(lines) + "\n"


def url_path(url: str) -> Path | None:
    """Return the path of a ``file:`` URL, None for any other URL."""
    parts = split_url(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
