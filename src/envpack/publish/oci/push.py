"""The push of a release: its blobs, its manifest, the documents that refer to it, and its tag at the end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from envpack.bundle.codecs import FAST
from envpack.publish.base import Upload, ignore
from envpack.publish.names import parse_bundle_name
from envpack.publish.oci.layers import Blob, Part, digests, parts_of
from envpack.publish.oci.manifests import (
    EMPTY_CONFIG,
    Described,
    Layer,
    config_of,
    index_of,
    manifest_of,
    referrer_of,
)
from envpack.publish.oci.upload import Uploader
from envpack.runtime.errors import FormatError, UsageError
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.transport.oci.manifest import (
    CREATED,
    DOCUMENTS,
    INDEX,
    MAX_MANIFEST,
    Descriptor,
    Document,
    platform_of,
    read_document,
)
from envpack.runtime.transport.oci.registry import Registry, fallback_tag

UPLOADS = 3
"""Blobs that are sent at a time."""
_OTHER = "application/vnd.envpack.document.v1"
"""The artifact type of a document of no known kind."""


def push_bundle(registry: Registry, uploader: Uploader, bundle: Upload, documents: Sequence[Upload]) -> Document:
    """Upload a bundle and its documents, without a tag; return the bundle's manifest.

    Args:
        registry: The repository.
        uploader: Uploads its blobs.
        bundle: The bundle, a file.
        documents: Its documents.

    Raises:
        FetchError: The registry refuses it.
        IntegrityError: The bundle is damaged, or was changed meanwhile.
        UsageError: It is too large for a registry.
    """
    path = bundle.content
    if not isinstance(path, Path):
        raise TypeError("a bundle is a file")
    with open_bundle(path, FAST) as opened, threads(UPLOADS + 1, "push") as pool:
        try:
            whole = pool.submit(_read, replace(bundle, progress=ignore))
            layers = _push_layers(opened, path, bundle, uploader, pool)
            whole.result()
        except BaseException:
            registry.cancel()
            pool.shutdown(cancel_futures=True)
            raise
        described = _described(opened, bundle, documents)
    config = Blob.of(config_of(described, layers))
    uploader.push(config)
    manifest = put_manifest(registry, manifest_of(described, config, layers))[0]
    _attach(registry, uploader, manifest, documents)
    return manifest


def put_manifest(registry: Registry, data: bytes, tag: str = "") -> tuple[Document, bool]:
    """Write a manifest or an index by its digest, or with a tag.

    Returns:
        What was written, and whether the registry lists it as a referrer.

    Raises:
        FetchError: The registry refuses it.
        UsageError: It is larger than registries take.
    """
    if len(data) > MAX_MANIFEST:
        raise UsageError(
            f"the bundle has more segments than the manifest of a registry can list ({len(data):,} bytes)",
            hint="Publish it to another kind of place.",
        )
    blob = Blob.of(data)
    document = read_document(data, blob.digest, "", registry.reference.place)
    answer = registry.request(
        "PUT",
        registry.url(f"manifests/{tag or blob.digest}"),
        (200, 201, 202),
        headers={"Content-Type": document.type, "Content-Length": str(blob.size)},
        body=lambda: [data],
    )
    return document, "oci-subject" in answer.headers


def _read(bundle: Upload) -> None:
    for _ in bundle.chunks():
        pass


def _push_layers(
    bundle: Bundle, path: Path, upload: Upload, uploader: Uploader, pool: ThreadPoolExecutor
) -> list[Layer]:
    def push(part: Part) -> Layer:
        digest, diff_id = digests(bundle, part, path)
        uploader.push(Blob(digest, part.size, path, part.offset, upload.progress))
        return Layer(part.title, digest, diff_id, part.size)

    return list(pool.map(push, parts_of(bundle)))


def _described(bundle: Bundle, upload: Upload, documents: Sequence[Upload]) -> Described:
    manifest, name = bundle.manifest, parse_bundle_name(upload.name)
    return Described(
        name.name if name is not None else manifest.name,
        manifest.version,
        manifest.created,
        upload.name,
        upload.sha256,
        bundle.codec,
        platform_of(manifest.subdir),
        tuple(sorted(file.name for file in documents)),
    )


def _attach(registry: Registry, uploader: Uploader, bundle: Document, documents: Sequence[Upload]) -> None:
    unlisted = []
    for file in documents:
        content = Blob.of(b"".join(file.chunks()))
        uploader.push(content)
        uploader.push(EMPTY_CONFIG)
        type = next((type for end, type in DOCUMENTS.items() if file.name.endswith(end)), _OTHER)
        created = bundle.annotations.get(CREATED, "")
        data = referrer_of(type, file.name, content, bundle.descriptor(), created)
        manifest, listed = put_manifest(registry, data)
        if not listed:
            unlisted.append(manifest.descriptor())
    if unlisted:
        _list_in_tag(registry, bundle.digest, unlisted)


def _list_in_tag(registry: Registry, digest: str, new: Sequence[Descriptor]) -> None:
    """Add referrers to the index that replaces the registry's own list (distribution specification, "Pushing
    Manifests with Subject")."""
    tag = fallback_tag(digest)
    found = registry.manifest(tag)
    known = [] if found is None else list(found[0].manifests)
    if found is not None and found[0].type != INDEX:
        raise FormatError(f"{registry.reference.place}:{tag} is not an index, as it has to be")
    added = [each for each in new if each not in known]
    if added:
        replaced = {each.digest for each in added}
        kept = [each for each in known if each.digest not in replaced]
        put_manifest(registry, index_of([*kept, *added], {}), tag)
