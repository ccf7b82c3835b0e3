"""Publishing in an object store: whole or not at all, never overwritten, and nothing is left of what failed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from support.bundle_factory import file, make_bundle
from support.command_line import Done
from support.object_stores import BUCKET, Request, Store, object_store, run, start

STEM = "demo-1.0-20261127-linux-64"
NAME = f"{STEM}.tar.gz"
LATEST = "demo-latest-linux-64.json"
TARGET = f"s3://{BUCKET}/prod"
DOCUMENTS = (f"{NAME}.sha256", f"{STEM}.manifest.json", f"{STEM}.cdx.json")
REQUESTS = 14
"""Requests for the publication of a bundle of one part."""
SAMPLE = {2, 7, 9, 11, 13}
"""Those of them at which the default suite kills a publisher: one of each kind."""
FILES = {f"prod/{name}" for name in (NAME, *DOCUMENTS)}


def make(path: Path, seed: int, size: int) -> Path:
    items = [file(f"lib/{number}", random.Random(seed + number).randbytes(1 << 20)) for number in range(size)]
    make_bundle(path, {"environment": items}, name="demo", version="1.0")
    return path


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    with object_store() as store:
        yield store


@pytest.fixture
def store(shared: Store) -> Store:
    shared.reset()
    return shared


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of three parts."""
    return make(tmp_path_factory.mktemp("large") / NAME, 0, 17)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("small") / NAME, 100, 1)


def publish(store: Store, bundle: Path, target: str = TARGET, patch: str = "") -> Done:
    return run("publish", bundle, target, environ=store.environ, patch=patch)


def assert_whole(store: Store, bundle: Path) -> None:
    """Check that the bundle, its documents and the pointer to it are there, and nothing else."""
    content = bundle.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert store.names() == {*FILES, f"prod/{LATEST}"}
    assert store.read(f"prod/{NAME}") == content
    assert store.read(f"prod/{NAME}.sha256") == f"{digest}  {NAME}\n".encode()
    assert json.loads(store.read(f"prod/{LATEST}"))["sha256"] == digest


def test_a_bundle_is_uploaded_in_parts_after_its_other_files(store: Store, bundle: Path) -> None:
    assert publish(store, bundle)[:2] == (0, f"{TARGET}/{NAME}\n")
    assert_whole(store, bundle)
    written = [request.name for request in store.requests if request.method in ("PUT", "POST")]
    assert written == [*DOCUMENTS, *[NAME] * 5, LATEST]
    assert store.uploads() == set()


def test_the_same_bundle_again_is_not_sent_again(store: Store, small: Path) -> None:
    publish(store, small)
    store.requests.clear()
    assert publish(store, small).code == 0
    assert {request.method for request in store.requests} == {"GET"}


def test_another_bundle_of_that_name_is_refused(store: Store, small: Path, tmp_path: Path) -> None:
    publish(store, small)
    done = publish(store, make(tmp_path / NAME, 300, 0))
    assert done.code == 10 and f"{TARGET}/{NAME} is another bundle" in done.err
    assert_whole(store, small)


def test_releases_are_listed(store: Store, small: Path) -> None:
    publish(store, small)
    done = run("releases", TARGET, "--json", environ=store.environ)
    [release] = json.loads(done.out)["result"]["releases"]
    assert release["bundle"] == f"{TARGET}/{NAME}"
    assert release["size"] == small.stat().st_size
    assert run("releases", f"{TARGET}/new", "--json", environ=store.environ).code == 0


def test_a_prefix_may_have_blanks_and_other_characters(store: Store, small: Path) -> None:
    target = f"s3://{BUCKET}/a%20b/%C3%BC+c"
    assert publish(store, small, f"{target}/")[:2] == (0, f"{target}/{NAME}\n")
    assert {name.rpartition("/")[0] for name in store.names()} == {"a b/ü+c"}


def test_of_two_publishers_at_once_one_gets_the_name(store: Store, bundle: Path, tmp_path: Path) -> None:
    bundles = [bundle, make(tmp_path / NAME, 200, 17)]
    processes = [start("publish", path, TARGET, environ=store.environ) for path in bundles]
    for process in processes:
        process.communicate()
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 10]
    assert_whole(store, bundles[codes.index(0)])


_RELEASE = """
import sys
from datetime import date
from pathlib import Path
from envpack.publish.local import LocalFolder
from envpack.publish.names import BundleName
from envpack.publish.release import publish_new
from envpack.publish.targets import TargetOptions, publisher_for
import hashlib, os

folder, target, content = Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
names = [BundleName("demo", "1.0", date(2026, 11, 27), "linux-64", number) for number in range(3)]
first = LocalFolder(folder)
with first.staging() as staging:
    finished = staging / "bundle"
    finished.write_bytes(content)
    places = [first, publisher_for(target, TargetOptions(os.environ))]
    digest = hashlib.sha256(content).hexdigest()
    print(publish_new(places, finished, names, sha256=digest, documents={".manifest.json": content}).name)
"""


def test_two_releases_at_once_get_different_names(store: Store, tmp_path: Path) -> None:
    environ = {**os.environ, **store.environ}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RELEASE, str(tmp_path / content), TARGET, content],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for content in ("one", "two")
    ]
    names = [process.communicate()[0].strip() for process in processes]
    assert set(names) == {NAME, NAME.replace("-linux", ".1-linux")}
    for content, name in zip(("one", "two"), names, strict=True):
        assert store.read(f"prod/{name}") == content.encode()
        assert store.read(f"prod/{name.replace('.tar.gz', '.manifest.json')}") == content.encode()
    assert len(store.names()) == 6


def killed(store: Store, bundle: Path, number: int, answered: bool) -> None:
    """Publish, and kill the process at a request; ``answered``: when the store has done what it says."""
    started: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    lock = threading.Lock()

    def kill(request: Request) -> bool:
        with lock:
            if started.empty() or len(store.requests) <= number:
                return True
            process = started.get()
        process.kill()
        process.wait()
        return False

    if answered:
        store.after = kill
    else:
        store.before = kill
    process = start("publish", bundle, TARGET, environ=store.environ)
    started.put(process)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def requests(shared: Store, small: Path) -> list[Request]:
    """Return the requests of a publisher that nothing disturbs."""
    shared.reset()
    assert publish(shared, small).code == 0
    return list(shared.requests)


def test_all_requests_are_tested_below(requests: list[Request]) -> None:
    assert len(requests) == REQUESTS


@pytest.mark.parametrize(
    "number",
    [pytest.param(number, marks=[] if number in SAMPLE else [pytest.mark.long]) for number in range(REQUESTS)],
)
def test_after_a_kill_at_any_request_the_same_command_finishes(
    requests: list[Request], store: Store, small: Path, number: int
) -> None:
    for answered in (False, True) if requests[number].method in ("PUT", "POST") else (False,):
        store.reset()
        killed(store, small, number, answered)
        there = store.names()
        assert f"prod/{NAME}" not in there or there >= FILES
        assert publish(store, small).code == 0
        assert_whole(store, small)


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("PUT", ".sha256"),
        ("PUT", ".manifest.json"),
        ("POST", "?uploads"),
        ("PUT", "partNumber=2"),
        ("POST", "?uploadId"),
    ],
)
def test_what_can_not_be_written_leaves_nothing(store: Store, bundle: Path, method: str, part: str) -> None:
    store.status = lambda request: 403 if request.method == method and part in request.path else 0
    done = publish(store, bundle)
    assert done.code == 10 and f"can't write to {TARGET}: permission denied" in done.err
    assert store.names() == set()
    if sys.version_info >= (3, 11):  # obstore 0.11 leaves the parts
        assert store.uploads() == set()


_NOTICED = """
import pathlib, threading
import envpack.publish.object_store.publisher as publisher

class Event(threading.Event):
    def set(self):
        super().set()
        pathlib.Path({path!r}).touch()

publisher.threading = type("threading", (), {{"Event": Event}})
publisher._CONNECTIONS = 1
"""
"""Code that makes a file when the upload is to be stopped, and sends one part at a time."""


def test_ctrl_c_leaves_nothing(store: Store, bundle: Path, tmp_path: Path) -> None:
    noticed = tmp_path / "noticed"

    def interrupt(request: Request) -> bool:
        if "partNumber=1&" in request.path:
            process.send_signal(signal.SIGINT)
            while not noticed.exists():
                time.sleep(0.01)
        return True

    store.before = interrupt
    process = start("publish", bundle, TARGET, environ=store.environ, patch=_NOTICED.format(path=str(noticed)))
    process.communicate()
    assert process.returncode == 130
    assert store.names() == store.uploads() == set()


def test_a_bundle_that_is_changed_meanwhile_is_not_published(store: Store, small: Path, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(small.read_bytes())

    def change(request: Request) -> bool:
        if request.method == "PUT" and request.name == f"{STEM}.manifest.json":
            with path.open("r+b") as out:
                out.write(b"other")
        return True

    store.before = change
    done = publish(store, path)
    assert done.code == 7 and "was changed while it was published" in done.err
    assert store.names() == store.uploads() == set()


@pytest.mark.parametrize("answered", [False, True])
def test_every_request_may_be_lost_once(store: Store, bundle: Path, answered: bool) -> None:
    """Each connection is lost once, before the store has seen the request or before its response."""
    seen: set[str] = set()

    def drop(request: Request) -> bool:
        key = f"{request.method} {request.path}"
        known = key in seen
        seen.add(key)
        return known

    if answered:
        store.after = drop
    else:
        store.before = drop
    assert publish(store, bundle).code == 0
    assert_whole(store, bundle)


def test_a_part_that_stalls_is_sent_again(store: Store, bundle: Path) -> None:
    again = threading.Event()
    sent: list[Request] = []

    def stall(request: Request) -> bool:
        if "partNumber=2&" in request.path:
            sent.append(request)
            if len(sent) > 1:
                again.set()
            again.wait()
        return True

    store.before = stall
    patch = "import envpack.publish.object_store.publisher as publisher; publisher.PART_SECONDS = 5"
    assert publish(store, bundle, patch=patch).code == 0
    assert again.is_set()
    assert_whole(store, bundle)


def test_of_two_releases_at_once_the_newer_is_the_latest(store: Store, small: Path, tmp_path: Path) -> None:
    """The pointer is written as it was read only: one publisher waits until the other has written it."""
    newer = tmp_path / NAME.replace("20261127", "20261128")
    newer.write_bytes(small.read_bytes())
    codes: list[int] = []

    def overtake(request: Request) -> bool:
        if not codes and request.method == "PUT" and request.name == LATEST:
            store.before = lambda request: True
            process = start("publish", newer, TARGET, environ=store.environ)  # `run` is at work already
            process.communicate()
            codes.append(process.returncode)
        return True

    store.before = overtake
    assert publish(store, small).code == 0
    assert codes == [0]
    assert json.loads(store.read(f"prod/{LATEST}"))["released"] == "2026-11-28"
