"""Manifests and indexes that anybody may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envpack.runtime.errors import FormatError
from envpack.runtime.transport.oci.manifest import (
    INDEX,
    MANIFEST,
    Platform,
    choose,
    host_platform,
    platform_of,
    read_document,
)

DIGEST = "sha256:" + "0a" * 32
LAYER = {"mediaType": "x", "digest": DIGEST, "size": 1}


def read(value: Any, type: str = "") -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_document(data, DIGEST, type, "here")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"mediaType": 1}',
        b"[" * 100_000,
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+json"},
        {"mediaType": MANIFEST, "layers": 1},
        {"mediaType": MANIFEST, "layers": [1]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "digest": "sha512:" + "0" * 128}]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "digest": DIGEST + "/../x"}]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "size": -1}]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "size": 1.5}]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "size": True}]},
        {"mediaType": MANIFEST, "layers": [{**LAYER, "size": 1 << 70}]},
        {"mediaType": MANIFEST, "layers": [LAYER] * 20_001},
        {"mediaType": MANIFEST, "artifactType": 1},
        {"mediaType": MANIFEST, "annotations": [1]},
        {"mediaType": MANIFEST, "annotations": {"a": 1}},
        {"mediaType": INDEX, "manifests": [{**LAYER, "platform": {"os": 1}}]},
        {"mediaType": INDEX, "manifests": [{**LAYER, "platform": []}]},
    ],
)
def test_invalid_documents(value: Any) -> None:
    with pytest.raises(FormatError, match=r"^here: "):
        read(value)


def test_the_type_of_the_registry_counts_where_none_is_stated() -> None:
    assert read({"layers": [LAYER]}, MANIFEST).layers
    with pytest.raises(FormatError):
        read({"layers": [LAYER]}, "text/html")


def test_the_manifest_for_a_platform() -> None:
    def entry(os: str, architecture: str, **more: Any) -> dict[str, Any]:
        return {**LAYER, "mediaType": MANIFEST, "platform": {"os": os, "architecture": architecture}, **more}

    index = read(
        {
            "mediaType": INDEX,
            "manifests": [LAYER, entry("linux", "amd64", size=2), entry("linux", "arm64", size=3)],
        }
    )
    assert choose(index, Platform("linux", "arm64"), "here").size == 3
    with pytest.raises(FormatError, match="nothing for darwin/arm64, but for linux/amd64, linux/arm64"):
        choose(index, Platform("darwin", "arm64"), "here")


def test_platforms() -> None:
    assert platform_of("linux-aarch64") == Platform("linux", "arm64")
    assert platform_of("noarch") == host_platform()
    assert str(platform_of("linux-armv7l")) == "linux/arm/v7"
