"""Conda packages known by URL, in lists and locks of other tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from envpack.lock import rattler_async
from envpack.lock.solve import channel_failure
from envpack.runtime.errors import BuildError, UsageError
from envpack.runtime.transport.redact import split_url, without_secrets

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})|(?:md5:)?([0-9a-fA-F]{32})")
_SUBDIR = re.compile(
    r"noarch|(?:linux|osx|win|freebsd|emscripten|wasi|zos)"
    r"-(?:32|64|aarch64|arm64|armv[67]l|loongarch64|ppc64(?:le)?|riscv(?:32|64)|s390x|wasm32|z)"
)
"""Folders of a channel (conda/base/constants.py, ``KNOWN_SUBDIRS``)."""
_ARCHIVES = (".conda", ".tar.bz2")


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
    def in_channel(self) -> bool:
        """Return whether its folder is one of a channel; local files may lie anywhere, as in a package cache."""
        return url_path(self.url) is None or _SUBDIR.fullmatch(self.subdir) is not None

    @property
    def file_name(self) -> str:
        return unquote(self.url.rsplit("/", 1)[-1])

    @property
    def channel(self) -> str:
        return self.url.rsplit("/", 2)[0]


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


def url_path(url: str) -> Path | None:
    """Return the path of a ``file:`` URL, None for any other URL."""
    parts = split_url(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def package_channels(packages: Sequence[PackageUrl]) -> tuple[str, ...]:
    """Return the URLs of the channels that packages are from, in order."""
    return tuple(dict.fromkeys(f"{package.channel}/" for package in packages if package.in_channel))


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
        raise channel_failure(str(error), package_channels(packages)) from None
    records, errors = [], []
    for package in packages:
        record = available.get((package.subdir, package.file_name))
        if record is None:
            channel = without_secrets(package.channel)
            errors.append(f"{package.where}: {channel} does not list {package.file_name}")
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
        listed = file is None or (package.in_channel and (file.parent / "repodata.json").exists())
        if file is not None and file.is_file() and not listed:
            found[package.subdir, package.file_name] = await RepoDataRecord.from_package_archive(file)
        elif package.in_channel:
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
    return package.file_name.rsplit("-", 2)[0].lower()
