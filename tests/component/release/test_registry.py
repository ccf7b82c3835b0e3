"""Bundles in a real registry: published, listed, deployed by tag, digest and latest, upgraded, signed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import jsonschema
import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.cli.commands.schema import load
from envpack.publish.oci.publisher import open_repository
from envpack.runtime.transport.oci.manifest import INDEX, MANIFEST
from envpack.signing.bundle import sign_bundle
from envpack.signing.keys import SecretKey, new_key, secret_key_file
from support.bundle_factory import file, make_bundle, text
from support.command_line import Done, envpack
from support.registries import docker_registry, program, proxied

FIRST, SECOND, NEXT_DAY = "20251219", "20251219.1", "20251220"
LARGE = bytes(hashlib.shake_256(b"large").digest(300_000))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def made(
    folder: Path, version: str, date: str, name: str = "demo", suffix: str = ".tar.gz", **fields: Any
) -> Path:
    """Make a bundle of three segments, of which one is the same in each version, with the name of a release."""
    folder.mkdir(exist_ok=True)
    subdir = fields.get("subdir", "linux-64")
    path = folder / f"{name}-{version}-{date}-{subdir}{suffix}"
    segments = {
        "conda:large-1-0": [file("lib/large", LARGE)],
        "conda:small-1-0": [file("lib/version", version.encode()), file("bin/activate", b"true\n")],
        "environment": [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755)],
    }
    make_bundle(path, segments, **{"name": name, "version": version, "test": ("test -x bin/tool",), **fields})
    return path


def result(*words: object) -> Any:
    done = envpack(*words, "--json")
    document = json.loads(done.out)
    jsonschema.validate(document, load(str(words[0])))
    assert done.code == 0, document["error"]
    return document["result"]["releases"]


def deploy(where: object, root: Path, *options: object) -> str:
    done = envpack("deploy", where, root, *options)
    assert done.code == 0, done.err
    assert (root / "bin/tool").read_text() == f"#!/bin/sh\necho {root}\n"
    return (root / "lib/version").read_text()


def failed(code: int, *words: object, **environ: str) -> Done:
    done = envpack(*words, **environ)
    assert done.code == code, done.err
    return done


def test_publish_list_and_deploy_by_tag_digest_and_latest(registry: str, tmp_path: Path) -> None:
    place = f"oci://{registry}/team/demo"
    first, second = made(tmp_path / "dist", "1", FIRST), made(tmp_path / "dist", "2", NEXT_DAY, suffix=".tar.zst")
    [published] = result("publish", first, place)
    tag = f"{place}:1-{FIRST}-linux-64"
    assert published["bundle"] == tag and published["latest"] == f"{place}:latest" and published["published"]
    [again] = result("publish", first, place)
    assert not again["published"]
    result("publish", second, place)
    listed = result("releases", place)
    assert [(each["version"], each["bundle"]) for each in listed] == [
        ("2", f"{place}:2-{NEXT_DAY}-linux-64"),
        ("1", tag),
    ]
    assert [each["size"] for each in listed] == [second.stat().st_size, first.stat().st_size]
    assert listed[1]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert deploy(tag, tmp_path / "by-tag") == "1"
    assert deploy(place, tmp_path / "latest") == "2"
    record = json.loads((tmp_path / "by-tag/.envpack/deployment.json").read_bytes())
    assert record["bundle"].startswith(f"{tag}@sha256:")
    digest = record["bundle"].rpartition("@")[2]
    assert deploy(f"{place}@{digest}", tmp_path / "by-digest") == "1"


def test_an_upgrade_moves_only_the_segments_that_changed_both_ways(registry: str, tmp_path: Path) -> None:
    first, second = made(tmp_path / "dist", "1", FIRST), made(tmp_path / "dist", "2", NEXT_DAY)
    with proxied(registry) as proxy:
        place = f"oci://{proxy.host}/upgrade"
        result("publish", first, place)
        assert proxy.sent > len(LARGE)
        deploy(place, tmp_path / "x")
        proxy.reset()
        result("publish", second, place)
        assert 0 < proxy.sent < 20_000
        proxy.reset()
        assert deploy(place, tmp_path / "x") == "2"
        assert 0 < proxy.received < 20_000
        proxy.reset()
        result("publish", second, place)
        assert proxy.sent == 0


def test_the_runtime_of_a_bundle_reads_registries(registry: str, tmp_path: Path) -> None:
    """It needs no envpack, nor anything else but Python."""
    place, runtime = f"oci://{registry}/runtime", tmp_path / "runtime.pyz"
    result("publish", made(tmp_path / "dist", "1", FIRST), place)
    runtime.write_bytes(runtime_zip())
    command = [sys.executable, "-I", "-S", runtime, "deploy", place, tmp_path / "x"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "x/lib/version").read_text() == "1"


def test_the_blobs_joined_are_the_bundle(registry: str, tmp_path: Path) -> None:
    """So says any program that reads registries: skopeo copies the image to a folder."""
    skopeo = program("skopeo")
    bundle = made(tmp_path / "dist", "1", FIRST)
    result("publish", bundle, f"oci://{registry}/joined")
    copied = tmp_path / "copied"
    command = [*skopeo, "copy", "--insecure-policy", "--src-tls-verify=false"]
    image = f"{registry}/joined:1-{FIRST}-linux-64"
    subprocess.run([*command, f"docker://{image}", f"dir:{copied}"], check=True, capture_output=True)
    manifest = json.loads((copied / "manifest.json").read_bytes())
    blobs = [(copied / layer["digest"].partition(":")[2]).read_bytes() for layer in manifest["layers"]]
    assert b"".join(blobs) == bundle.read_bytes()
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]]
    assert titles == ["head", "conda:large-1-0", "conda:small-1-0", "environment", "end"]


def test_umoci_unpacks_the_tree_of_tar(registry: str, tmp_path: Path) -> None:
    """umoci 0.4 reads gzip alone."""
    skopeo, umoci = program("skopeo"), program("umoci")
    bundle = made(tmp_path / "dist", "1", FIRST)
    result("publish", bundle, f"oci://{registry}/unpacked")
    image = f"{registry}/unpacked:1-{FIRST}-linux-64"
    layout = tmp_path / "layout"
    command = [*skopeo, "copy", "--insecure-policy", "--src-tls-verify=false"]
    subprocess.run([*command, f"docker://{image}", f"oci:{layout}:demo"], check=True, capture_output=True)
    unpack = [*umoci, "unpack", "--rootless", "--image", f"{layout}:demo", str(tmp_path / "image")]
    subprocess.run(unpack, check=True, capture_output=True)
    (tmp_path / "tar").mkdir()
    subprocess.run(["tar", "-xf", bundle, "-C", tmp_path / "tar"], check=True)
    subprocess.run(["diff", "-r", tmp_path / "tar", tmp_path / "image" / "rootfs"], check=True)


def test_another_bundle_of_the_same_name_is_refused(registry: str, tmp_path: Path) -> None:
    place = f"oci://{registry}/taken"
    result("publish", made(tmp_path / "one", "1", FIRST), place)
    other = made(tmp_path / "other", "1", FIRST, test=("true",))
    assert "is another bundle" in failed(10, "publish", other, place).err
    assert deploy(place, tmp_path / "x") == "1"


def test_a_repository_has_one_environment(registry: str, tmp_path: Path) -> None:
    place = f"oci://{registry}/one"
    result("publish", made(tmp_path / "dist", "1", FIRST), place)
    done = failed(10, "publish", made(tmp_path / "dist", "1", FIRST, name="other"), place)
    assert "has the releases of demo, not of other" in done.err and "another repository" in done.err


def test_a_tag_is_no_place_to_publish_to(registry: str, tmp_path: Path) -> None:
    place = f"oci://{registry}/demo"
    done = failed(2, "publish", made(tmp_path / "dist", "1", FIRST), f"{place}:1")
    assert f"Write {place}" in done.err


def test_latest_has_a_release_for_each_platform_and_never_an_older_one(registry: str, tmp_path: Path) -> None:
    place, dist = f"oci://{registry}/platforms", tmp_path / "dist"
    for version, date, subdir in (
        ("2", NEXT_DAY, "linux-64"),
        ("1", FIRST, "linux-64"),
        ("3", FIRST, "linux-aarch64"),
        ("4", SECOND, "linux-aarch64"),
    ):
        result("publish", made(dist, version, date, subdir=subdir), place)
    index = manifest_of(registry, "platforms", "latest")
    found = {
        each["platform"]["architecture"]: each["annotations"]["org.opencontainers.image.version"]
        for each in index["manifests"]
    }
    assert found == {"amd64": "2", "arm64": "4"}
    assert deploy(f"{place}:latest", tmp_path / "x") == "2"


def test_an_index_that_another_publisher_overwrites_is_written_again(registry: str, tmp_path: Path) -> None:
    """Two jobs publish for two platforms, and the other one has read the index before this one wrote it."""
    result("publish", made(tmp_path / "dist", "1", FIRST, subdir="linux-aarch64"), f"oci://{registry}/both")
    stale, seen = raw_manifest(registry, "both", "latest"), []

    def overwrite(handler: Any) -> bool:
        if handler.command != "PUT" or not handler.path.endswith("/manifests/latest"):
            return False
        handler.forward()
        if not seen:
            put_manifest(registry, "both", "latest", stale, INDEX)
        seen.append(handler.path)
        return True

    with proxied(registry) as proxy:
        proxy.before = overwrite
        result("publish", made(tmp_path / "dist", "1", FIRST), f"oci://{proxy.host}/both")
    index = manifest_of(registry, "both", "latest")
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
    assert len(seen) == 2


def raw_manifest(registry: str, repository: str, tag: str) -> bytes:
    request = Request(
        f"http://{registry}/v2/{repository}/manifests/{tag}", headers={"Accept": f"{MANIFEST}, {INDEX}"}
    )
    with urlopen(request) as response:
        data: bytes = response.read()
    return data


def manifest_of(registry: str, repository: str, tag: str) -> Any:
    return json.loads(raw_manifest(registry, repository, tag))


def host_with_policy(folder: Path, key: SecretKey) -> Path:
    """Make the root folder of a host that demands signatures of this key."""
    policy = folder / "etc/envpack/policy.toml"
    policy.parent.mkdir(parents=True)
    policy.write_text(f'require = ["{key.public.text}"]')
    return folder


def test_signatures_and_the_pointer_to_the_latest_release(registry: str, tmp_path: Path) -> None:
    place, dist, key = f"oci://{registry}/signed", tmp_path / "dist", new_key()
    root, target = host_with_policy(tmp_path / "root", key), tmp_path / "x"
    (tmp_path / "release.key").write_text(secret_key_file(key, ""))
    (tmp_path / "release.key").chmod(0o600)
    sign = ("--key", tmp_path / "release.key")
    result("publish", made(dist, "0", FIRST), place, *sign)
    unsigned = failed_on(root, "deploy", f"{place}:0-{FIRST}-linux-64", target)
    assert "no .minisig belongs to it" in unsigned
    for version, date in (("1", SECOND), ("2", NEXT_DAY)):
        bundle = made(dist, version, date)
        sign_bundle(bundle, key, "", FAST)
        result("publish", bundle, place, *sign)
        if version == "1":
            replayed = raw_manifest(registry, "signed", "latest")
    assert [each["signed"] for each in result("releases", place)] == [True, True, False]
    signed = envpack("deploy", place, target, root=root)
    assert signed.code == 0, signed.err
    put_manifest(registry, "signed", "latest", replayed, INDEX)
    older = failed_on(root, "deploy", place, target)
    assert "is deployed, which is newer" in older
    by_name = envpack("deploy", f"{place}:1-{SECOND}-linux-64", target, root=root)
    assert by_name.code == 0, by_name.err


def failed_on(root: Path, *words: object) -> str:
    done = envpack(*words, root=root)
    assert done.code == 7, done.err
    return done.err


def test_a_tag_latest_without_a_pointer_is_refused(registry: str, tmp_path: Path) -> None:
    """Anybody who can write to the registry could take a signed pointer away, and offer an older release."""
    result("publish", made(tmp_path / "dist", "1", FIRST), f"oci://{registry}/bare")
    index = manifest_of(registry, "bare", "latest")
    del index["manifests"][0]["annotations"]["vnd.envpack.latest"]
    put_manifest(registry, "bare", "latest", json.dumps(index).encode(), INDEX)
    assert "was not written by envpack" in failed(6, "deploy", f"oci://{registry}/bare", tmp_path / "x").err
    release = raw_manifest(registry, "bare", f"1-{FIRST}-linux-64")
    put_manifest(registry, "bare", "latest", release, MANIFEST)
    assert "was not written by envpack" in failed(6, "deploy", f"oci://{registry}/bare:latest", tmp_path / "x").err
    assert "not found" in failed(6, "deploy", f"oci://{registry}/none", tmp_path / "x").err


def put_manifest(registry: str, repository: str, tag: str, data: bytes, type: str) -> None:
    put = Request(f"http://{registry}/v2/{repository}/manifests/{tag}", data, {"Content-Type": type}, method="PUT")
    urlopen(put).close()


def test_documents_refer_to_the_bundle_and_are_listed_by_the_fallback_tag(registry: str, tmp_path: Path) -> None:
    """docker-registry 2.8 has no API for referrers."""
    bundle = made(tmp_path / "dist", "1", FIRST)
    stem = bundle.name.removesuffix(".tar.gz")
    bundle.with_name(f"{stem}.notes.md").write_text("notes")
    result("publish", bundle, f"oci://{registry}/documents")
    publisher = open_repository(f"oci://{registry}/documents", {}, insecure=False)
    names = set(publisher.files()) - {bundle.name}
    assert names == {f"{stem}{end}" for end in (".tar.gz.sha256", ".manifest.json", ".cdx.json", ".notes.md")}
    assert publisher.read(f"{stem}.notes.md") == b"notes"
    assert json.loads(publisher.read(f"{stem}.manifest.json"))["name"] == "demo"
    with pytest.raises(FileNotFoundError):
        publisher.read(f"{stem}.tar.gz.minisig")
    [latest] = manifest_of(registry, "documents", "latest")["manifests"]
    tag = latest["digest"].replace(":", "-")
    index = manifest_of(registry, "documents", tag)
    types = {f"application/vnd.{each}" for each in ("envpack.manifest.v1+json", "cyclonedx+json")}
    types.add("application/vnd.envpack.notes.v1+markdown")
    assert {each["artifactType"] for each in index["manifests"]} == types
    for each in index["manifests"]:
        document = manifest_of(registry, "documents", each["digest"])
        assert document["subject"]["digest"] == latest["digest"]
        assert document["annotations"] == each["annotations"] != {}
        assert document["artifactType"] == each["artifactType"]


def test_referrers_of_a_registry_that_lists_them(registry: str, tmp_path: Path) -> None:
    """docker-registry does not; the proxy adds what OCI's distribution specification 1.1 demands, page by page."""
    listed: dict[str, list[dict[str, Any]]] = {}

    def add_api(handler: Any) -> bool:
        if handler.command == "GET" and "/referrers/" in handler.path:
            digest, _, page = handler.path.rpartition("/")[2].partition("?page=")
            found, number = listed.get(digest, []), int(page or 0)
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found[number : number + 1]}
            following = f'</v2/api/referrers/{digest}?page={number + 1}>; rel="next"'
            link = {"Link": following} if number + 1 < len(found) else {}
            handler.answer(200, json.dumps(index).encode(), {"Content-Type": INDEX, **link})
            return True
        if handler.command == "PUT" and "/manifests/" in handler.path:
            body = handler.read_body()
            manifest = json.loads(body)
            if "subject" in manifest:
                subject = manifest["subject"]["digest"]
                descriptor = {key: manifest[key] for key in ("mediaType", "artifactType", "annotations")}
                digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                listed.setdefault(subject, []).append({**descriptor, "digest": digest, "size": len(body)})
                handler.more["OCI-Subject"] = subject
        return False

    bundle, key = made(tmp_path / "dist", "1", FIRST), new_key()
    sign_bundle(bundle, key, "", FAST)
    with proxied(registry) as proxy:
        proxy.before = add_api
        place = f"oci://{proxy.host}/api"
        result("publish", bundle, place)
        assert [len(found) for found in listed.values()] == [3]
        root = host_with_policy(tmp_path / "root", key)
        done = envpack("deploy", f"{place}:1-{FIRST}-linux-64", tmp_path / "x", root=root)
        assert done.code == 0, done.err
    assert not [tag for tag in tags_of(registry, "api") if tag.startswith("sha256-")]


def tags_of(registry: str, repository: str) -> list[str]:
    with urlopen(f"http://{registry}/v2/{repository}/tags/list") as response:
        tags: list[str] = json.loads(response.read())["tags"]
    return tags


def test_latest_leads_to_what_is_published_after_its_release_was_deleted(registry: str, tmp_path: Path) -> None:
    """The proxy answers as a registry where the tag of the newer release was deleted."""
    gone = f"/manifests/2-{FIRST}-linux-64"

    def deleted(handler: Any) -> bool:
        if handler.command != "GET" or not handler.path.endswith(gone):
            return False
        handler.answer(404, b"{}")
        return True

    with proxied(registry) as proxy:
        place = f"oci://{proxy.host}/withdrawn"
        for version in ("1", "2"):
            result("publish", made(tmp_path / "dist", version, FIRST), place)
        assert deploy(place, tmp_path / "x") == "2"
        proxy.before = deleted
        [published] = result("publish", made(tmp_path / "dist", "1", FIRST), place)
        assert not published["published"]
        assert deploy(place, tmp_path / "x") == "1"


def test_tags_are_listed_in_pages(registry: str, tmp_path: Path) -> None:
    """docker-registry 2.8 gives all at once; the proxy cuts its list, as others do."""
    for version in ("1", "2"):
        result("publish", made(tmp_path / "dist", version, FIRST), f"oci://{registry}/pages")
    tags = tags_of(registry, "pages")

    def one_by_one(handler: Any) -> bool:
        if "/tags/list" not in handler.path:
            return False
        last = handler.path.partition("last=")[2]
        page = tags[tags.index(last) + 1 :][:1] if last else tags[:1]
        following = {"Link": f'</v2/pages/tags/list?n=1&last={page[0]}>; rel="next"'} if page else {}
        handler.answer(200, json.dumps({"name": "pages", "tags": page}).encode(), following)
        return True

    with proxied(registry) as proxy:
        proxy.before = one_by_one
        assert len(result("releases", f"oci://{proxy.host}/pages")) == 2
