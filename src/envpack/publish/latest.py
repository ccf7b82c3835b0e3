"""The pointer to the latest release of an environment for a platform: a small file that is replaced."""

from __future__ import annotations

import json

from envpack.publish.base import Publisher, Upload
from envpack.publish.names import BundleName, parse_bundle_name
from envpack.runtime.errors import FormatError
from envpack.runtime.transport.documents import PARTS, Latest, latest_name, read_latest


def point_to(publisher: Publisher, bundle: BundleName, sha256: str, size: int) -> str:
    """Make the pointer of an environment lead to a release, unless it leads to a newer one.

    Args:
        publisher: The place that the release is published in.
        bundle: The name of the bundle.
        sha256: Its digest, in hex.
        size: Its size in bytes.

    Returns:
        The path or URL of the pointer; "" for a place where files can't be replaced.

    Raises:
        DestinationError: It can't be written.
    """
    if not publisher.replaces:
        return ""
    name = latest_name(bundle.name, bundle.subdir)
    file = publisher.address(str(bundle)).rpartition("/")[2]
    latest = Latest(bundle.name, bundle.version, bundle.subdir, bundle.day.isoformat(), file, sha256, size)
    if not _is_newer(publisher, name, bundle):
        content = json.dumps(latest.as_dict(), indent=2, sort_keys=True) + "\n"
        publisher.replace(Upload.of(name, content.encode()))
    return publisher.address(name)


def _is_newer(publisher: Publisher, name: str, bundle: BundleName) -> bool:
    """Return whether the pointer leads to a release that is as new as ``bundle``, or newer."""
    try:
        known = read_latest(publisher.read(name), publisher.address(name))
    except (FileNotFoundError, FormatError):
        return False
    other = parse_bundle_name(known.bundle.removesuffix(PARTS))
    return other is not None and other.age >= bundle.age
