"""The releases that are published in a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envpack.publish.base import Publisher
from envpack.publish.names import BundleName, parse_bundle_name
from envpack.publish.release import CHECKSUM, SIGNATURE
from envpack.runtime.transport.documents import PARTS


@dataclass(frozen=True)
class PublishedRelease:
    """A release as a place lists it.

    Attributes:
        bundle: The name of the bundle.
        address: Its path or URL.
        size: Its size in bytes.
        sha256: Its digest, in hex.
        signed: Whether there is a signature beside it.
    """

    bundle: BundleName
    address: str
    size: int
    sha256: str
    signed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.bundle.name,
            "version": self.bundle.version,
            "date": self.bundle.day.isoformat(),
            "ordinal": self.bundle.ordinal,
            "subdir": self.bundle.subdir,
            "bundle": self.address,
            "size": self.size,
            "sha256": self.sha256,
            "signed": self.signed,
        }


def list_releases(publisher: Publisher, name: str = "") -> list[PublishedRelease]:
    """Return the releases in a place, those of one environment together, the newest of each first.

    A release that is not complete is left out.

    Args:
        publisher: The place.
        name: The name of an environment; "" for all.

    Raises:
        DestinationError: The place can't be read.
    """
    files = publisher.files()
    found = []
    for file in files:
        bundle = parse_bundle_name(file.removesuffix(PARTS))
        if bundle is None or (name and bundle.name != name) or f"{bundle}{CHECKSUM}" not in files:
            continue
        try:
            sha256 = publisher.read(f"{bundle}{CHECKSUM}").decode("ascii", "replace").partition(" ")[0]
        except FileNotFoundError:  # removed meanwhile
            continue
        address = publisher.address(file)
        signed = f"{bundle}{SIGNATURE}" in files
        found.append(PublishedRelease(bundle, address, _size(files, file, str(bundle)), sha256, signed))
    found.sort(key=lambda release: (release.bundle.age, str(release.bundle)), reverse=True)
    return sorted(found, key=lambda release: release.bundle.name)


def _size(files: Mapping[str, int], file: str, bundle: str) -> int:
    """Return the size of a bundle, whose parts have a number after its name."""
    if file == bundle:
        return files[file]
    return sum(size for name, size in files.items() if name.rpartition(".")[0] == bundle and name[-3:].isdecimal())
