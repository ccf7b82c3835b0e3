"""Names, settings and documents of what is published in registries."""

from __future__ import annotations

import json

import pytest

from envpack.publish.names import parse_published_name
from envpack.publish.oci.layers import Blob
from envpack.publish.oci.manifests import Described, Layer, config_of, index_of, manifest_of, referrer_of
from envpack.publish.oci.publisher import OciRepository, open_repository
from envpack.publish.oci.settings import PushSettings
from envpack.runtime.errors import UsageError
from envpack.runtime.transport.oci.manifest import MANIFEST, SIGNATURE, Descriptor, Platform, read_document

DIGEST = "sha256:" + "0a" * 32
LAYERS = [Layer("head", DIGEST, "sha256:" + "0b" * 32, 10), Layer("end", "sha256:" + "0c" * 32, DIGEST, 20)]
BUNDLE = Described(
    "demo",
    "1.0",
    86400,
    "demo-1.0-20251219-linux-64.tar.gz",
    "0d" * 32,
    "gzip",
    Platform("linux", "amd64"),
    ("a", "b"),
)


def repository(target: str = "oci://host/team/demo", **environ: str) -> OciRepository:
    return open_repository(target, environ, insecure=False)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("", "oci://host/team/demo"),
        ("demo-1.0-20251219-linux-64.tar.gz", "oci://host/team/demo:1.0-20251219-linux-64"),
        ("demo-1.0-20251219-linux-64.tar.zst", "oci://host/team/demo:1.0-20251219-linux-64"),
        ("demo-1.0-20251219.1-linux-64.tar.gz.sha256", "oci://host/team/demo:1.0-20251219.1-linux-64"),
        ("demo-1.0-20251219-linux-64.tar.gz.minisig", "oci://host/team/demo:1.0-20251219-linux-64"),
        ("demo-1.0-20251219-linux-64.cdx.json", "oci://host/team/demo:1.0-20251219-linux-64"),
        ("demo-1.0-20251219-linux-64.notes.md", "oci://host/team/demo:1.0-20251219-linux-64"),
        ("my-env-1+cu12-20251219-linux-64.tar.gz", "oci://host/team/demo:1_cu12-20251219-linux-64"),
        ("any name.tar.gz", "oci://host/team/demo:any_name"),
        ("demo-latest-linux-64.json", "oci://host/team/demo:latest"),
    ],
)
def test_addresses_of_published_files(name: str, address: str) -> None:
    assert repository().address(name) == address


@pytest.mark.parametrize(
    "target", ["oci://host/demo:1", f"oci://host/demo@{DIGEST}", "oci://host", "oci://a:b@host/c"]
)
def test_places_that_are_none(target: str) -> None:
    with pytest.raises(UsageError):
        repository(target)


def test_a_release_is_known_by_its_file_and_by_its_tag() -> None:
    expected = parse_published_name("demo-1.0-20251219.2-linux-64.tar.gz", "demo")
    assert expected is not None and expected.ordinal == 2
    for file in ("1.0-20251219.2-linux-64", f"1.0-20251219.2-linux-64@{DIGEST}"):
        assert parse_published_name(f"team:{file}", "demo") == expected
    assert parse_published_name("team:latest", "demo") is None
    assert parse_published_name(f"team@{DIGEST}", "demo") is None


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("100", 100), ("50MiB", 50 << 20), ("4 KiB", 4096), ("1GiB", 1 << 30)]
)
def test_sizes_of_chunks(text: str, size: int) -> None:
    assert PushSettings.of({"ENVPACK_OCI_CHUNK": text}).chunk == size


@pytest.mark.parametrize("text", ["0", "-1", "1MB", "x", "1e9", "99999999999"])
def test_invalid_sizes_of_chunks(text: str) -> None:
    with pytest.raises(UsageError):
        PushSettings.of({"ENVPACK_OCI_CHUNK": text})


def test_repositories_to_mount_from() -> None:
    assert PushSettings.of({"ENVPACK_OCI_MOUNT_FROM": "a/b, c,"}).sources == ("a/b", "c")


def test_the_manifest_of_a_bundle() -> None:
    config = Blob.of(config_of(BUNDLE, LAYERS))
    assert isinstance(config.content, bytes)
    image = json.loads(config.content)
    assert (image["os"], image["architecture"]) == ("linux", "amd64")
    assert image["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id for layer in LAYERS]}
    data = manifest_of(BUNDLE, config, LAYERS)
    assert data == manifest_of(BUNDLE, config, LAYERS)
    found = read_document(data, DIGEST, "", "here")
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in LAYERS]
    assert {layer.type for layer in found.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert found.annotations["org.opencontainers.image.created"] == "1970-01-02T00:00:00Z"
    assert found.annotations["vnd.envpack.documents"] == "a b"


def test_a_referrer_names_its_subject_without_annotations() -> None:
    subject = Descriptor(MANIFEST, DIGEST, 5, "type", None, {"a": "b"})
    document = json.loads(referrer_of(SIGNATURE, "x.minisig", Blob.of(b"x"), subject, "now"))
    assert document["subject"] == {"mediaType": MANIFEST, "digest": DIGEST, "size": 5}
    assert document["artifactType"] == SIGNATURE


def test_an_index_keeps_what_descriptors_state() -> None:
    each = Descriptor(MANIFEST, DIGEST, 5, "type", Platform("linux", "arm", "v7"), {"a": "b"})
    found = read_document(index_of([each], {"c": "d"}), DIGEST, "", "here")
    assert list(found.manifests) == [each] and found.annotations == {"c": "d"}
