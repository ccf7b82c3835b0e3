"""A bundle in a registry as a `ByteSource`: its layers, joined, are read as one file."""

from __future__ import annotations

import os
from dataclasses import replace

from envpack.runtime.errors import FetchError, FormatError, IntegrityError
from envpack.runtime.transport.base import ByteSource
from envpack.runtime.transport.documents import Latest, read_latest
from envpack.runtime.transport.http.joined import JoinedReader, Piece
from envpack.runtime.transport.http.source import HttpSource
from envpack.runtime.transport.oci.auth import is_plain
from envpack.runtime.transport.oci.manifest import (
    BUNDLE,
    DOCUMENTS,
    INDEX,
    LATEST_POINTER,
    Document,
    choose,
    host_platform,
)
from envpack.runtime.transport.oci.reference import LATEST, Reference, parse_reference
from envpack.runtime.transport.oci.registry import Registry

_MAX_HEAD = 512 << 20
"""Bytes of the first layer, the head of a bundle: FORMAT.md limits what is in it to 320 MiB."""
_MAX_DOCUMENT = 64 << 20


def open_oci(text: str) -> ByteSource:
    """Open a bundle at an ``oci://`` address, or a document that was attached to it.

    All of the first layer, which has the bundle's manifest, is read and verified at once: whoever names a digest
    gets that bundle. The frames of the other layers are verified by that manifest.

    Raises:
        FetchError: the registry does not give it.
        FormatError: it is not a bundle, or none for this platform.
        IntegrityError: it is damaged; or the document does not exist.
        UsageError: the address is not valid.
    """
    reference = parse_reference(text)
    registry = Registry(reference, os.environ, plain=is_plain(reference, os.environ))
    try:
        bundle = find_bundle(registry, reference)
        if reference.part:
            data = read_attached(registry, bundle, reference.part)
            if data is None:
                raise IntegrityError(
                    f"{replace(reference, part='')}: no {reference.part} belongs to it in the registry",
                    hint="Sign the bundle before it is published.",
                )
            registry.close()
            return BytesSource(data, str(reference))
        start = registry.blob(bundle.layers[0], _MAX_HEAD)
        pieces = [Piece(registry.url(f"blobs/{layer.digest}"), layer.size) for layer in bundle.layers]
        reader = JoinedReader(pieces, registry.pool)
        return HttpSource(reader, start, str(reference), str(reference.pinned(bundle.digest)))
    except BaseException:
        registry.close()
        raise


def latest_in(text: str) -> Latest | None:
    """Return the pointer to the latest release that a registry has for this platform.

    None where the address names a release by another tag or by a digest.

    Raises:
        FetchError: the registry does not give it.
        FormatError: there is none, or it is not valid. Without it, a host could not tell that a release is old.
        UsageError: the address is not valid.
    """
    reference = parse_reference(text)
    if reference.wanted != LATEST:
        return None
    registry = Registry(reference, os.environ, plain=is_plain(reference, os.environ))
    try:
        found = registry.manifest(LATEST)
    finally:
        registry.close()
    if found is None:
        raise _missing(str(reference))
    chosen = choose(found[0], host_platform(), str(reference)) if found[0].type == INDEX else None
    pointer = chosen.annotations.get(LATEST_POINTER, "") if chosen is not None else ""
    if not pointer:
        raise FormatError(
            f"{reference}: the tag {LATEST} was not written by envpack",
            hint="Give the tag or the digest of a release: 'envpack releases' lists them.",
        )
    return read_latest(pointer.encode(), str(reference))


def release_in(text: str, latest: Latest) -> str:
    """Return the address of the release that a pointer names, in the repository that has the pointer."""
    return f"{parse_reference(text).place}:{latest.bundle.rpartition(':')[2]}"


def find_bundle(registry: Registry, reference: Reference) -> Document:
    """Return the manifest of the bundle that a reference leads to, on this platform.

    Raises:
        FetchError: there is none.
        FormatError: it is not a bundle, or none for this platform.
    """
    where = str(reference)
    found = registry.manifest(reference.wanted)
    if found is None:
        raise _missing(where)
    document = found[0]
    if document.type == INDEX:
        inner = registry.manifest(choose(document, host_platform(), where).digest)
        if inner is None:
            raise FetchError(f"{where}: a manifest of the index is missing in the registry")
        document = inner[0]
    if document.artifact != BUNDLE or not document.layers:
        what = f"an artifact of type {document.artifact[:80]!r}" if document.artifact else "an image"
        raise FormatError(f"{where}: {what}, not a bundle", hint="Bundles are published with 'envpack publish'.")
    return document


def read_attached(registry: Registry, bundle: Document, end: str) -> bytes | None:
    """Return the content of a document of a bundle; None where there is none.

    Args:
        registry: the repository.
        bundle: the manifest of the bundle.
        end: the end of the document's name, one of `DOCUMENTS`.

    Raises:
        FetchError, FormatError, IntegrityError: it can't be had, or is damaged.
    """
    wanted = DOCUMENTS.get(end)
    for each in registry.referrers(bundle.digest):
        if each.artifact == wanted:
            found = registry.manifest(each.digest)
            if found is not None and found[0].layers:
                return registry.blob(found[0].layers[0], _MAX_DOCUMENT)
    return None


def _missing(where: str) -> FetchError:
    return FetchError(
        f"{where}: not found in the registry", hint="List what is there with 'envpack releases', or log in."
    )


class BytesSource(ByteSource):
    """A small file that was read already."""

    is_remote = True

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(name, name, len(data))
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]
