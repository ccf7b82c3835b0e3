"""Mirrors: what is read from them, and what happens when they fail, lie, or are another bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.repair import repair
from envpack.runtime.errors import FetchError, IntegrityError
from envpack.runtime.transport.http import pool, source
from envpack.runtime.transport.mirrors import mirror_of
from support.bundle_factory import file, make_bundle
from support.reporters import RecordingReporter
from support.servers import Files, serving

CONTENT = {f"lib/{name}": os.urandom(3 << 20) for name in ("a", "b", "c", "d")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "b.tar.gz"
    make_bundle(path, {name: [file(name, content)] for name, content in CONTENT.items()})
    return path.read_bytes()


@pytest.fixture
def origin(data: bytes) -> Iterator[Files]:
    with serving({"/b.tar.gz": data}) as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(source, "RANGE", 1 << 20)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def deployed(origin: Files, root: Path, *mirrors: object) -> RecordingReporter:
    reporter = RecordingReporter()
    options = DeployOptions(mirrors=[str(mirror) for mirror in mirrors], jobs=2)
    deploy(f"{origin.url}/b.tar.gz", root, options, reporter=reporter, decoders=FAST)
    assert {name: (root / name).read_bytes() for name in CONTENT} == CONTENT
    return reporter


@pytest.mark.parametrize("kind", ["URL", "folder URL", "path", "folder"])
def test_packages_come_from_the_mirror(kind: str, origin: Files, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/b.tar.gz").write_bytes(data)
    with serving({"/copies/b.tar.gz": data}) as mirror:
        where = {
            "URL": f"{mirror.url}/copies/b.tar.gz",
            "folder URL": f"{mirror.url}/copies/",
            "path": tmp_path / "copy/b.tar.gz",
            "folder": tmp_path / "copy",
        }[kind]
        reporter = deployed(origin, tmp_path / "x", where)
        assert origin.served < 100_000  # the head, and what is read with it
        assert (mirror.served > len(data) - 100_000) == ("URL" in kind)
    assert reporter.warnings == []


def wrong(data: bytes) -> bytes:
    """Return the bundle with one wrong byte in a segment."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (None, "404"),
        (wrong, "it sent other bytes than the bundle has"),
        (lambda data: data[:-1], "bytes, not"),
        (lambda data: b"<html>", "bytes, not"),
    ],
)
def test_a_mirror_that_fails_or_lies_is_not_asked_again(
    served: Any, said: str, origin: Files, data: bytes, tmp_path: Path
) -> None:
    with serving({"/b.tar.gz": served(data)} if served else {}) as mirror:
        reporter = deployed(origin, tmp_path / "x", f"{mirror.url}/b.tar.gz")
    [warning] = reporter.warnings
    assert warning.startswith(f"mirror {mirror.url}/b.tar.gz: ") and said in warning


def test_the_next_mirror_is_not_given_up_for_what_the_first_one_sent(
    origin: Files, data: bytes, tmp_path: Path
) -> None:
    bad = bytearray(data)
    for at in range(len(data) // 4, len(data) - 4096, len(data) // 16):
        bad[at] ^= 1
    with serving({"/b.tar.gz": bytes(bad)}) as first, serving({"/b.tar.gz": data}) as second:
        reporter = deployed(origin, tmp_path / "x", f"{first.url}/", f"{second.url}/")
    assert [warning.partition(": ")[0] for warning in reporter.warnings] == [f"mirror {first.url}/b.tar.gz"]


def test_the_rest_is_read_from_the_next_mirror_and_then_from_the_origin(
    origin: Files, data: bytes, tmp_path: Path
) -> None:
    def after(requests: int, server: Files) -> Any:
        def refuse(handler: Any) -> bool:
            if len(server.requests) > requests:
                handler.refuse(403)
                return True
            return False

        return refuse

    with serving({"/b.tar.gz": data}) as first, serving({"/b.tar.gz": data}) as second:
        first.before, second.before = after(2, first), after(2, second)
        reporter = deployed(origin, tmp_path / "x", f"{first.url}/", "ftp://no/", f"{second.url}/")
        assert first.served and second.served and origin.served > 100_000
    assert [warning.partition(": ")[0] for warning in reporter.warnings] == [
        f"mirror {first.url}/b.tar.gz",
        "mirror ftp://no/",
        f"mirror {second.url}/b.tar.gz",
    ]


def test_damage_at_the_origin_is_still_an_error(data: bytes, tmp_path: Path) -> None:
    with (
        serving({"/b.tar.gz": wrong(data)}) as origin,
        serving({"/b.tar.gz": wrong(data)}) as mirror,
        pytest.raises(IntegrityError, match="damaged at byte"),
    ):
        deployed(origin, tmp_path / "x", f"{mirror.url}/")
    assert not (tmp_path / "x").exists()


def test_a_lost_origin_is_an_error_before_any_mirror(data: bytes, tmp_path: Path) -> None:
    with serving({}) as origin, serving({"/b.tar.gz": data}) as mirror:
        with pytest.raises(FetchError):
            deployed(origin, tmp_path / "x", f"{mirror.url}/")
        assert mirror.requests == []


def test_a_repair_reads_from_the_mirror(origin: Files, data: bytes, tmp_path: Path) -> None:
    deployed(origin, tmp_path / "x")
    (tmp_path / "x/lib/b").unlink()
    origin.reset()
    with serving({"/b.tar.gz": data}) as mirror:
        url = f"{origin.url}/b.tar.gz"
        repair(tmp_path / "x", url, reporter=RecordingReporter(), decoders=FAST, mirrors=[f"{mirror.url}/"])
        assert mirror.served > 3 << 20
    assert origin.served < 100_000
    assert (tmp_path / "x/lib/b").read_bytes() == CONTENT["lib/b"]


@pytest.mark.parametrize(
    ("mirror", "bundle", "found"),
    [
        ("https://near/b/", "https://far/x/demo%2B1.tar.gz?token=1", "https://near/b/demo%2B1.tar.gz"),
        ("https://near/other.tar.gz", "https://far/demo.tar.gz", "https://near/other.tar.gz"),
        ("/not/there", "https://far/demo.tar.gz", Path("/not/there")),
        ("/", "https://far/demo.tar.gz", Path("/demo.tar.gz")),
    ],
)
def test_a_folder_of_bundles_has_a_bundle_under_its_own_name(mirror: str, bundle: str, found: Any) -> None:
    assert mirror_of(mirror, bundle) == found
