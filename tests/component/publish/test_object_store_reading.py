"""Deploying from an object store: signed URLs are renewed, only what is missing is read, errors are explained."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bundle_factory import file, make_bundle, text
from support.command_line import Done, envpack
from support.object_stores import BUCKET, Request, Store, object_store, run

TARGET = f"s3://{BUCKET}/prod"
SIZE = 1 << 20
PACKAGES = 12


def packed(folder: Path, version: str, changed: int = -1) -> Path:
    """Make a bundle of 12 packages of 1 MiB; the one ``changed`` differs in each version."""
    segments = {"environment": [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755), file("bin/activate", b"true\n")]}
    for number in range(PACKAGES):
        content = random.Random(f"{number} {version if number == changed else ''}").randbytes(SIZE)
        segments[f"conda:p{number}-1-0"] = [file(f"lib/p{number}", content)]
    path = folder / f"demo-{version}-20261127-linux-64.tar.gz"
    make_bundle(path, segments, name="demo", version=version)
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("bundles")
    with object_store() as store:
        for version in ("1", "2"):
            bundle = packed(folder, version, changed=5)
            assert run("publish", bundle, TARGET, environ=store.environ).code == 0
        yield store


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that is not published."""
    path = tmp_path_factory.mktemp("small") / "demo-3-20261127-linux-64.tar.gz"
    make_bundle(path, {"environment": [file("bin/activate", b"true\n")]}, name="demo", version="3")
    return path


@pytest.fixture
def store(shared: Store) -> Store:
    shared.forget()
    return shared


def url(version: str) -> str:
    return f"{TARGET}/demo-{version}-20261127-linux-64.tar.gz"


def deploy(store: Store, where: str, root: Path, *words: object) -> Done:
    return run("deploy", where, root, *words, environ=store.environ)


def test_a_bundle_is_deployed_by_its_address_alone(store: Store, tmp_path: Path) -> None:
    assert deploy(store, url("1"), tmp_path / "x").code == 0
    assert (tmp_path / "x/bin/tool").read_text() == f"#!/bin/sh\necho {tmp_path / 'x'}\n"
    assert {request.method for request in store.requests} == {"GET"}
    record = "".join(path.read_text() for path in (tmp_path / "x/.envpack").glob("*.json"))
    assert url("1") in record and "Signature" not in record


def test_the_latest_release_is_deployed_and_inspected_and_verified(store: Store, tmp_path: Path) -> None:
    latest = f"{TARGET}/demo-latest-linux-64.json"
    assert deploy(store, latest, tmp_path / "x").code == 0
    for command in ("inspect", "verify"):
        done = run(command, latest, "--json", environ=store.environ)
        assert done.code == 0, done.out
    assert run("repair", tmp_path / "x", latest, environ=store.environ).code == 0


def test_an_upgrade_reads_the_changed_segment_alone(store: Store, tmp_path: Path) -> None:
    deploy(store, url("1"), tmp_path / "x")
    assert store.sent > PACKAGES * SIZE
    store.forget()
    assert deploy(store, url("2"), tmp_path / "x").code == 0
    assert SIZE < store.sent < 1.5 * SIZE


def test_an_url_that_expires_is_signed_again(store: Store, tmp_path: Path) -> None:
    refused: list[str] = []

    def expire(request: Request) -> int:
        if len(store.requests) < 3 or refused:
            return 0
        refused.append(request.path)
        return 403

    store.status = expire
    assert deploy(store, url("1"), tmp_path / "x").code == 0
    assert len(refused) == 1 and all("X-Amz-Signature" in request.path for request in store.requests)


def test_a_connection_that_is_lost_is_resumed(store: Store, tmp_path: Path) -> None:
    store.before = lambda request: len(store.requests) % 3 != 0
    assert deploy(store, url("1"), tmp_path / "x").code == 0


def test_what_is_not_there_is_an_error_without_a_signature(store: Store, tmp_path: Path) -> None:
    done = deploy(store, f"{TARGET}/none.tar.gz", tmp_path / "x", "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["type"]) == (6, "FetchError")
    assert "404" in error["message"] and "Signature" not in done.out + done.err
    assert not (tmp_path / "x").exists()


def test_the_signature_is_published_and_read_beside_the_bundle(store: Store, small: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copy(small, tmp_path))
    assert envpack("sign", "--new-key", tmp_path / "ci", "--no-password").code == 0
    assert envpack("sign", bundle, "--key", tmp_path / "ci.key").code == 0
    assert run("publish", bundle, f"{TARGET}/signed", environ=store.environ).code == 0
    where = f"{TARGET}/signed/{bundle.name}"
    done = run("verify", where, "--key", tmp_path / "ci.pub", environ=store.environ)
    assert done.code == 0, done.err
    assert f"{bundle.name}.minisig" in [request.name for request in store.requests]


def test_wrong_keys_are_an_error_that_does_not_show_them(small: Path) -> None:
    with object_store(INITIAL_NO_AUTH_ACTION_COUNT="1") as store:
        done = run("publish", small, TARGET, environ=store.environ)
    assert done.code == 10
    assert f"can't read {TARGET}: " in done.err and "AWS_" in done.err
    assert store.environ["AWS_SECRET_ACCESS_KEY"] not in done.err


def test_a_bucket_that_is_missing_is_an_error(store: Store, small: Path) -> None:
    done = run("publish", small, "s3://another/prod", environ=store.environ)
    assert done.code == 10 and "there is no such bucket" in done.err
    done = run("releases", "s3://another", environ=store.environ)
    assert done.code == 10 and "there is no such bucket" in done.err


def test_a_store_that_can_not_be_reached_is_an_error(store: Store, small: Path) -> None:
    environ = {**store.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    patch = "import envpack.publish.object_store.connect as connect; connect.RETRIES = 0"
    done = run("publish", small, TARGET, environ=environ, patch=patch)
    assert done.code == 10 and "can't be reached" in done.err


def test_without_keys_the_message_says_which_to_set(store: Store, small: Path, tmp_path: Path) -> None:
    """The metadata server of a virtual machine is one that has no keys."""
    nowhere = {"HOME": str(tmp_path), "AWS_METADATA_ENDPOINT": f"{store.url}/latest/api/token"}
    environ = {**nowhere, "AWS_ENDPOINT_URL": store.url}
    done = run("publish", small, TARGET, environ=environ)
    assert done.code == 10 and "no credentials were found" in done.err and "AWS_PROFILE" in done.err


def test_http_to_another_host_needs_to_be_allowed(small: Path) -> None:
    pytest.importorskip("obstore")
    environ = {"AWS_ENDPOINT_URL": "http://minio.invalid:9000"}
    done = envpack("publish", small, TARGET, **environ)
    assert done.code == 2 and "has no TLS" in done.err and "--insecure" in done.err


@pytest.mark.parametrize("words", [("publish", "bundle", TARGET), ("releases", TARGET), ("deploy", url("1"), "x")])
def test_without_the_extra_its_name_is_shown(small: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    places = {"bundle": small, "x": tmp_path / "x"}
    done = run(
        *(places.get(word, word) for word in words), environ={}, patch="import sys; sys.modules['obstore'] = None"
    )
    assert done.code == 2 and "pip install 'conda-envpack[cloud]'" in " ".join(done.err.split())


def test_the_runtime_in_a_bundle_refuses_the_address(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "envpack.runtime", "deploy", url("1"), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "aws s3 presign" in done.stderr
