"""The tag ``latest``: an index with the newest release of each platform."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

from envpack.publish.names import parse_bundle_name
from envpack.publish.oci.manifests import index_of
from envpack.publish.oci.push import put_manifest
from envpack.runtime.errors import DestinationError, FormatError
from envpack.runtime.transport.documents import Latest, latest_name, read_latest
from envpack.runtime.transport.oci.manifest import (
    FILE,
    INDEX,
    LATEST_POINTER,
    NAME,
    Descriptor,
    Document,
    platform_of,
)
from envpack.runtime.transport.oci.reference import LATEST
from envpack.runtime.transport.oci.registry import Registry

_ATTEMPTS = 5
"""How often the index is written where others write theirs at the same moment."""


def read_pointer(registry: Registry, name: str) -> bytes:
    """Return the pointer to the latest release for a platform, as it would be in a file with this name.

    It names the file of the bundle, not its tag, so it has no signature.

    Raises:
        FileNotFoundError: There is none.
    """
    for each in _known(registry):
        text, file = each.annotations.get(LATEST_POINTER, ""), each.annotations.get(FILE, "")
        bundle = parse_bundle_name(file)
        if text and bundle is not None and latest_name(bundle.name, bundle.subdir) == name:
            latest = read_latest(text.encode(), f"{registry.reference.place}:{LATEST}")
            return json.dumps(latest._replace(bundle=file, signature="").as_dict()).encode()
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def point_index(registry: Registry, manifest: Document, pointer: Latest) -> None:
    """Put a release into the index, in the place of an older one for its platform; those of others stay.

    A registry has no way to write only what nobody has changed meanwhile. So the index is read again afterwards,
    and written again where another one has replaced it.

    Args:
        registry: The repository.
        manifest: The manifest of the release.
        pointer: The pointer to it.

    Raises:
        FetchError: The registry refuses it.
        DestinationError: Others write it all the time.
    """
    text = json.dumps(pointer.as_dict(), sort_keys=True, separators=(",", ":"))
    new = manifest.descriptor(platform_of(pointer.subdir))
    new = replace(new, annotations={**new.annotations, LATEST_POINTER: text})
    for _ in range(_ATTEMPTS):
        known = _known(registry)
        others = [each for each in known if each.platform != new.platform]
        older = [each for each in known if each.platform == new.platform and _is_there(registry, each)]
        if any(_is_newer(each, new) or each == new for each in older):
            return
        index = index_of(
            sorted([*others, new], key=lambda each: str(each.platform)), {NAME: manifest.annotations[NAME]}
        )
        put_manifest(registry, index, LATEST)
        registry.pool.wait(_SETTLE_SECONDS)
    raise DestinationError(
        f"{registry.reference.place}:{LATEST} is written by others all the time",
        hint="The release is published. Run the command again to make it the latest one.",
    )


_SETTLE_SECONDS = 0.2
"""Seconds between writing the index and reading it again, in which another writer finishes."""


def _known(registry: Registry) -> list[Descriptor]:
    found = registry.manifest(LATEST)
    if found is None:
        return []
    if found[0].type != INDEX:
        raise FormatError(
            f"{registry.reference.place}:{LATEST} is not an index that envpack wrote",
            hint="Publish to a repository of its own.",
        )
    return list(found[0].manifests)


def _is_there(registry: Registry, known: Descriptor) -> bool:
    """Return whether the release that an entry of the index leads to still has its tag."""
    try:
        pointer = read_latest(known.annotations.get(LATEST_POINTER, "").encode(), LATEST)
    except FormatError:
        return False
    return registry.manifest(pointer.bundle.rpartition(":")[2]) is not None


def _is_newer(known: Descriptor, new: Descriptor) -> bool:
    ages = [parse_bundle_name(each.annotations.get(FILE, "")) for each in (known, new)]
    return ages[0] is not None and ages[1] is not None and ages[0].age > ages[1].age
