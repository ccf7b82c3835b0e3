"""The pointer to the latest release of an environment for a platform: a small file that is replaced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from envpack.publish.base import Publisher, Upload
from envpack.publish.names import BundleName, parse_bundle_name
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, FormatError
from envpack.runtime.transport.documents import PARTS, Latest, latest_name, read_latest

if TYPE_CHECKING:
    from envpack.signing.keys import SecretKey

VALID_DAYS = 30
"""Days until a signed pointer expires, by default: long enough for monthly releases."""

_TRIES = 20
"""Attempts to write the pointer, which others may write at the same moment."""


@dataclass(frozen=True)
class PointerSigner:
    """The key that pointers are signed with, and the last day on which they are to be believed."""

    key: SecretKey
    expires: date

    @classmethod
    def for_days(cls, key: SecretKey, today: date, days: int = VALID_DAYS) -> PointerSigner:
        """Return the signer of pointers that are valid for some days."""
        return cls(key, today + timedelta(days=days))


@dataclass(frozen=True)
class LatestRelease:
    """What a pointer leads to: a bundle's name, its size in bytes, its digest and that of its manifest, in hex."""

    name: BundleName
    size: int
    sha256: str
    manifest_sha256: str


def point_to(publisher: Publisher, release: LatestRelease, signer: PointerSigner | None = None) -> str:
    """Make the pointer of an environment lead to a release, unless it leads to a newer one.

    One that leads to this release is written again if it is signed: it is valid for longer then.

    Args:
        publisher: The place that the release is published in.
        release: The release.
        signer: Signs the pointer; None for one without signature, which does not expire.

    Returns:
        The path or URL of the pointer; "" for a place where files can't be replaced.

    Raises:
        DestinationError: It can't be written.
    """
    if not publisher.replaces:
        return ""
    bundle = release.name
    name = latest_name(bundle.name, bundle.subdir)
    for _ in range(_TRIES):
        known = _known(publisher, name)
        if known is not None and (known.age > bundle.age or (known.age == bundle.age and signer is None)):
            break
        file = publisher.address(str(bundle)).rpartition("/")[2]
        try:
            publisher.replace(Upload.of(name, _document(release, file, signer)))
        except FileExistsError:  # another publisher's, written since it was read
            continue
        break
    else:
        raise DestinationError(
            f"can't write {publisher.address(name)}: other processes change it again and again",
            hint="Run the command again. The bundle is published.",
        )
    return publisher.address(name)


def _document(release: LatestRelease, file: str, signer: PointerSigner | None) -> bytes:
    bundle = release.name
    latest = Latest(
        name=bundle.name,
        version=bundle.version,
        subdir=bundle.subdir,
        released=bundle.day.isoformat(),
        expires=signer.expires.isoformat() if signer is not None else "",
        bundle=file,
        size=release.size,
        sha256=release.sha256,
        manifest_sha256=release.manifest_sha256,
    )
    if signer is not None:
        from envpack.signing.signature import sign  # imported here: cryptography is slow to load

        comment = f"latest release of {bundle.name} for {bundle.subdir}"
        latest = latest._replace(signature=sign(latest.statement(), signer.key, comment).text)
    return (json.dumps(latest.as_dict(), indent=2, sort_keys=True) + "\n").encode()


def _known(publisher: Publisher, name: str) -> BundleName | None:
    """Return the release that a pointer leads to; None where there is no pointer, or the release is gone."""
    try:
        latest = read_latest(publisher.read(name), publisher.address(name))
        bundle = parse_bundle_name(latest.bundle.removesuffix(PARTS))
        publisher.read(f"{bundle}{CHECKSUM}")
    except (FileNotFoundError, FormatError):
        return None
    return bundle
