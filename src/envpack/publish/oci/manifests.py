"""The JSON of what is published in a registry: the same bundle gives the same bytes, so it has the same digest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from envpack.publish.oci.layers import Blob
from envpack.runtime.transport.oci.manifest import (
    BUNDLE,
    CONFIG,
    CREATED,
    DOCUMENT_NAMES,
    EMPTY,
    FILE,
    INDEX,
    LAYER,
    MANIFEST,
    NAME,
    SHA256,
    TITLE,
    VERSION,
    Descriptor,
    Platform,
)

EMPTY_CONFIG = Blob.of(b"{}")
"""The config of an artifact that has none (image specification, "Guidance for an Empty Descriptor")."""


class Layer(NamedTuple):
    """A layer: the id of its segment, its digests, compressed and not, and its size in bytes."""

    title: str
    digest: str
    diff_id: str
    size: int


class Described(NamedTuple):
    """What the manifest of a bundle says about it.

    Attributes:
        name: The name of the environment.
        version: Its version.
        created: When it was made, in seconds since 1970.
        file: The file name of the bundle.
        sha256: Its digest, in hex.
        codec: Its codec.
        platform: The platform.
        documents: The names of the documents that are attached to it.
    """

    name: str
    version: str
    created: int
    file: str
    sha256: str
    codec: str
    platform: Platform
    documents: tuple[str, ...]


def config_of(bundle: Described, layers: Sequence[Layer]) -> bytes:
    """Return the config of the image, which programs need that unpack it."""
    return _json(
        {
            **bundle.platform.as_dict(),
            "created": _time(bundle.created),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )


def manifest_of(bundle: Described, config: Blob, layers: Sequence[Layer]) -> bytes:
    """Return the manifest of a bundle."""
    type = f"{LAYER}{bundle.codec}"
    annotations = {
        CREATED: _time(bundle.created),
        VERSION: bundle.version,
        TITLE: bundle.file,
        NAME: bundle.name,
        FILE: bundle.file,
        SHA256: bundle.sha256,
        DOCUMENT_NAMES: " ".join(bundle.documents),
    }
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": Descriptor(CONFIG, config.digest, config.size).as_dict(),
            "layers": [
                Descriptor(type, layer.digest, layer.size, annotations={TITLE: layer.title}).as_dict()
                for layer in layers
            ],
            "annotations": annotations,
        }
    )


def referrer_of(type: str, name: str, content: Blob, subject: Descriptor, created: str) -> bytes:
    """Return the manifest of a document that belongs to a bundle.

    Args:
        type: Its artifact type.
        name: Its file name.
        content: The document.
        subject: The manifest of the bundle.
        created: When the bundle was made.
    """
    layer = Descriptor(type, content.digest, content.size, annotations={TITLE: name})
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": type,
            "config": Descriptor(EMPTY, EMPTY_CONFIG.digest, EMPTY_CONFIG.size).as_dict(),
            "layers": [layer.as_dict()],
            "subject": Descriptor(subject.type, subject.digest, subject.size).as_dict(),
            "annotations": {CREATED: created, TITLE: name},
        }
    )


def index_of(manifests: Iterable[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """Return an index of manifests."""
    index: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [each.as_dict() for each in manifests],
    }
    if annotations:
        index["annotations"] = dict(annotations)
    return _json(index)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
