"""Bundles on servers: which ranges are read, what resumes, which changes are noticed, where passwords are sent."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.check import Policy, check
from envpack.runtime.commands.deploy import Deployment
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.verify import verify
from envpack.runtime.errors import EnvpackError, FetchError, FormatError, IntegrityError, UsageError
from envpack.runtime.format.manifest import Package
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.transport.http import connection as connect_module
from envpack.runtime.transport.http import pool as pool_module
from envpack.runtime.transport.http import source as access_module
from envpack.runtime.transport.http.connection import proxy_for
from envpack.runtime.transport.http.source import GAP, RANGE, ranges
from envpack.runtime.transport.http.url import basic, parse_url
from envpack.runtime.transport.open import append_suffix, local_path, open_source, shown
from support.bundle_factory import file, make_bundle, text
from support.sample_deployments import deployed
from support.servers import Files, serving

MIB = 1 << 20
START = 64 << 10
PACKAGES = 12


@functools.cache
def noise(seed: str, size: int = MIB) -> bytes:
    return random.Random(seed).randbytes(size)


def packed(folder: Path, version: str = "1", changed: int = -1) -> bytes:
    """A bundle of 12 packages of 1 MiB that can't be compressed; the one ``changed`` differs in each version."""
    segments = {"environment": [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755), file("bin/activate", b"true\n")]}
    for number in range(PACKAGES):
        data = noise(f"{number} {version if number == changed else ''}")
        segments[f"conda:p{number}-1-0"] = [file(f"lib/p{number}", data)]
    path = folder / f"{version}.tar.gz"
    make_bundle(path, segments, name="demo", version=version)
    return path.read_bytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def server(data: bytes) -> Iterator[Files]:
    with serving({"/b.tar.gz": data}) as files:
        yield files


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting between tries, several ranges in 12 MiB, and no proxy or password of the user."""
    monkeypatch.setattr(pool_module, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(access_module, "RANGE", 4 * MIB)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def put(where: Path | str, folder: Path, **settings: Any) -> Deployment:
    settings = {"run_tests": False, "policy": Policy(check=False), **settings}
    return deployed(where, folder / "x", **settings)


def whole(folder: Path) -> bool:
    return all((folder / f"x/lib/p{number}").read_bytes() == noise(f"{number} ") for number in range(PACKAGES))


def refused(where: str, folder: Path, kind: type[EnvpackError] = FetchError, **settings: Any) -> EnvpackError:
    """The error of a deployment that must fail, and leave nothing."""
    with pytest.raises(EnvpackError) as caught:
        put(where, folder, **settings)
    assert type(caught.value) is kind, caught.value
    left = {path.name for path in folder.iterdir()} - {"netrc", "1.tar.gz"}
    assert not left
    return caught.value


# --- what is read ---


def test_only_the_head_is_read_for_inspect_and_check(server: Files, data: bytes) -> None:
    with open_bundle(f"{server.url}/b.tar.gz") as bundle:
        assert (bundle.manifest.name, bundle.size) == ("demo", len(data))
    assert server.served == START < len(data) / 100
    server.reset()
    assert check(f"{server.url}/b.tar.gz").title == "demo 1"
    assert server.served == START
    assert server.requests == [("GET", "/b.tar.gz", f"bytes=0-{START - 1}")]


def test_a_deployment_reads_every_byte_once_in_large_ranges(server: Files, data: bytes, tmp_path: Path) -> None:
    done = put(f"{server.url}/b.tar.gz", tmp_path)
    assert whole(tmp_path)
    assert done.bundle == f"{server.url}/b.tar.gz"
    assert server.served == len(data)
    assert len(server.requests) <= 2 + len(data) // (4 * MIB) + 1
    assert server.connections <= access_module.CONNECTIONS + 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_large_head_is_read_in_steps_and_never_twice(ranges: bool, tmp_path: Path) -> None:
    digests = [noise(str(number), 32).hex() for number in range(6000)]
    packages = tuple(Package("pypi", digest[:9], "1", sha256=digest, segment="environment") for digest in digests)
    make_bundle(tmp_path / "1.tar.gz", {"environment": [file("lib/x", noise("x"))]}, packages=packages)
    data = (tmp_path / "1.tar.gz").read_bytes()
    with serving({"/b": data}, ranges=ranges) as server, open_bundle(f"{server.url}/b") as bundle:
        assert 2 * START < bundle.head_size < 16 * START
        assert server.served <= 16 * START or not ranges
    # a server of its own: the first one may still be sending what nobody reads
    with serving({"/b": data}, ranges=ranges) as server:
        put(f"{server.url}/b", tmp_path)
        assert server.served == len(data)
    assert (tmp_path / "x/lib/x").read_bytes() == noise("x")


def test_the_runtimes_own_decoders_read_it_too(server: Files, tmp_path: Path) -> None:
    put(f"{server.url}/b.tar.gz", tmp_path, decoders={"gzip": FAST["gzip"]})
    assert whole(tmp_path)


def test_an_upgrade_with_a_store_reads_the_changed_package_alone(tmp_path: Path) -> None:
    with serving({f"/{v}": packed(tmp_path, v, changed=7) for v in ("1", "2")}) as server:
        put(f"{server.url}/1", tmp_path, store=tmp_path / "store")
        first, _ = server.served, server.reset()
        done = put(f"{server.url}/2", tmp_path, store=tmp_path / "store")
        assert first > PACKAGES * MIB
        assert server.served < START + 1.1 * MIB + GAP
        assert done.read < 1.1 * MIB
    assert (tmp_path / "x/lib/p7").read_bytes() == noise("7 2")


def test_a_repair_reads_the_frames_of_damaged_files_alone(server: Files, tmp_path: Path) -> None:
    put(f"{server.url}/b.tar.gz", tmp_path)
    for number in (3, 4, 9):
        (tmp_path / f"x/lib/p{number}").write_bytes(b"damaged")
    server.reset()
    done = repair(tmp_path / "x", f"{server.url}/b.tar.gz", reporter=Reporter())
    assert done.mended == ("lib/p3", "lib/p4", "lib/p9")
    assert whole(tmp_path)
    assert server.served < START + 3.2 * MIB + 2 * GAP
    assert len(server.requests) == 3  # the head, the two that adjoin, the other one


def test_verify_reads_all_and_finds_a_changed_byte(server: Files, data: bytes) -> None:
    url = f"{server.url}/b.tar.gz"
    assert verify(url, reporter=Reporter()).path == url
    server.data["/b.tar.gz"] = data[:-MIB] + bytes([data[-MIB] ^ 1]) + data[-MIB + 1 :]
    with pytest.raises(IntegrityError, match="damaged at byte"):
        verify(url, reporter=Reporter())


def test_ranges_are_joined_where_they_nearly_adjoin_and_cut_where_they_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access_module, "RANGE", RANGE)
    assert list(ranges([])) == []
    assert list(ranges([(0, 10), (10, 20), (20 + GAP, 21 + GAP)])) == [(0, 21 + GAP)]
    assert list(ranges([(0, 10), (11 + GAP, 12 + GAP)])) == [(0, 10), (11 + GAP, 12 + GAP)]
    assert list(ranges([(5, 5 + 2 * RANGE + 1)])) == [
        (5, 5 + RANGE),
        (5 + RANGE, 5 + 2 * RANGE),
        (5 + 2 * RANGE, 6 + 2 * RANGE),
    ]
    assert list(ranges([(50, 60), (0, 10), (7, 7)])) == [(50, 60), (0, 10)]


# --- what goes wrong on the way ---


def test_lost_connections_are_resumed_where_they_were_lost(server: Files, data: bytes, tmp_path: Path) -> None:
    server.drop_after, server.drops = 300_000, 20
    put(f"{server.url}/b.tar.gz", tmp_path)
    assert whole(tmp_path)
    assert server.drops == 0
    assert server.served == len(data)


def test_a_server_that_always_drops_is_given_up(server: Files, tmp_path: Path) -> None:
    server.drop_after, server.drops = 30_000, 1 << 30
    error = refused(f"{server.url}/b.tar.gz", tmp_path)
    assert "connection" in error.message
    assert len(server.requests) < 3 + access_module.CONNECTIONS * (pool_module.RETRIES + 2)


def test_a_request_to_a_busy_server_is_repeated(server: Files, tmp_path: Path) -> None:
    server.busy = 3
    put(f"{server.url}/b.tar.gz", tmp_path)
    assert whole(tmp_path)
    server.busy = 1 << 30
    (tmp_path / "other").mkdir()
    error = refused(f"{server.url}/b.tar.gz", tmp_path / "other")
    assert "503" in error.message and error.hint == "Try again later."


def test_a_request_to_a_silent_server_is_repeated(
    server: Files, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connect_module, "SILENCE_SECONDS", 0.3)
    over, hung = threading.Event(), threading.Event()

    def hang(handler: Any) -> bool:
        """Once, in the middle."""
        return handler.headers["Range"].startswith("bytes=4259840-") and not hung.is_set() and wait(handler)

    def wait(handler: Any) -> bool:
        hung.set()
        return bool(over.wait(30)) or True

    server.before = hang
    put(f"{server.url}/b.tar.gz", tmp_path)
    over.set()
    assert hung.is_set() and whole(tmp_path)
    assert server.served == len(data)


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(server: Files) -> None:
    source = open_source(f"{server.url}/b.tar.gz")
    server.before = lambda handler: setattr(handler, "close_connection", True)
    for offset in range(MIB, 4 * MIB, MIB):
        assert len(source.read(offset, 10)) == 10
    source.close()


def test_a_server_without_ranges_is_read_as_a_stream(server: Files, data: bytes, tmp_path: Path) -> None:
    server.ranges = False
    put(f"{server.url}/b.tar.gz", tmp_path)
    assert whole(tmp_path)
    assert len(server.requests) == 1 and server.served == len(data)


def test_a_stream_that_is_lost_leaves_nothing(server: Files, tmp_path: Path) -> None:
    server.ranges, server.drop_after, server.drops = False, 3_000_000, 1
    error = refused(f"{server.url}/b.tar.gz", tmp_path)
    assert "left to read" in error.message and "again" in error.hint


@pytest.mark.parametrize("etag", [True, False])
def test_a_file_that_was_replaced_meanwhile_is_noticed(
    server: Files, data: bytes, tmp_path: Path, etag: bool
) -> None:
    """By its ETag, or else by its size; both versions are whole bundles."""
    server.etag = etag
    other = packed(tmp_path, "1", changed=2) if etag else data + b"x"

    def replace(handler: Any) -> bool:
        if len(server.requests) == 4:
            server.data["/b.tar.gz"] = other
        return False

    server.before = replace
    error = refused(f"{server.url}/b.tar.gz", tmp_path)
    assert "was replaced during the download" in error.message


def test_what_no_header_shows_the_digests_show(server: Files, data: bytes, tmp_path: Path) -> None:
    server.etag = server.dated = False

    def replace(handler: Any) -> bool:
        server.data["/b.tar.gz"] = data[:MIB] + bytes(len(data) - MIB) if len(server.requests) > 3 else data
        return False

    server.before = replace
    refused(f"{server.url}/b.tar.gz", tmp_path, IntegrityError)


@pytest.mark.parametrize(
    "answer",
    ["bytes 7-65542/{size}", "bytes 0-99999999/{size}", "bytes 0-10/5", "bytes 0-10/*", "items 0-1/2", ""],
)
def test_an_answer_to_another_question_is_refused(server: Files, data: bytes, answer: str, tmp_path: Path) -> None:
    def lie(handler: Any) -> bool:
        handler.send_response(206)
        handler.send_header("Content-Range", answer.format(size=len(data)))
        handler.send_header("Content-Length", "11")
        handler.end_headers()
        handler.wfile.write(data[:11])
        return True

    server.before = lie
    assert "another range than requested" in refused(f"{server.url}/b.tar.gz", tmp_path).message


def test_a_total_that_is_not_the_bundles_is_refused(server: Files, data: bytes, tmp_path: Path) -> None:
    server.data["/b.tar.gz"] = data + b"\0"
    assert "is longer than" in refused(f"{server.url}/b.tar.gz", tmp_path, IntegrityError).message
    server.data["/b.tar.gz"] = data[:-1]
    assert "is truncated" in refused(f"{server.url}/b.tar.gz", tmp_path, IntegrityError).message


@pytest.mark.parametrize(("content", "ranges"), [(b"", True), (b"", False), (b"<html>", True), (b"PK\3\4", False)])
def test_what_is_no_bundle_is_refused(content: bytes, ranges: bool, tmp_path: Path) -> None:
    with serving({"/b": content}, ranges=ranges) as server:
        error = refused(f"{server.url}/b", tmp_path, FormatError)
    expected = {b"": "is empty", b"<html>": "web page", b"PK\3\4": "conda-pack"}[content]
    assert expected in error.message + error.hint


@pytest.mark.parametrize(("status", "hint"), [(403, "presigned"), (404, "published"), (410, "published")])
def test_a_status_is_reported_with_what_to_do(server: Files, status: int, hint: str, tmp_path: Path) -> None:
    server.before = lambda handler: handler.refuse(status) or True
    error = refused(f"{server.url}/b.tar.gz?X-Amz-Signature=secret", tmp_path)
    assert (error.code, str(status) in error.message, hint in error.hint) == (6, True, True)
    assert "secret" not in error.message + error.hint
    assert len(server.requests) == 1


def test_a_server_that_does_not_listen_is_reported_at_once(tmp_path: Path) -> None:
    with serving({}) as server:
        url = server.url
    assert "refused" in refused(f"{url}/b", tmp_path).message
    assert "nowhere.invalid" in refused("http://nowhere.invalid/b", tmp_path).message


# --- passwords, redirects, proxies ---


def test_a_password_comes_from_the_url_or_from_netrc_and_is_never_shown(server: Files, tmp_path: Path) -> None:
    server.user = basic("ann", "s3cr:et/?")
    address = server.url.partition("://")[2]
    error = refused(f"http://bob:hushhush@{address}/b.tar.gz", tmp_path)
    assert "401" in error.message and "hushhush" not in repr(vars(error))
    put(f"http://ann:s3cr%3Aet%2F%3F@{address}/b.tar.gz", tmp_path)
    record = (tmp_path / "x/.envpack/deployment.json").read_text()
    assert f'"bundle": "http://{address}/b.tar.gz"' in record
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password s3cr:et/?\n")
    with open_bundle(f"{server.url}/b.tar.gz") as bundle:
        assert bundle.manifest.name == "demo"


def test_a_netrc_that_can_t_be_read_is_reported_where_a_password_is_wanted(server: Files, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine\n")
    with open_bundle(f"{server.url}/b.tar.gz"):
        pass
    server.user = basic("ann", "x")
    with pytest.raises(FetchError) as caught:
        open_source(f"{server.url}/b.tar.gz")
    assert "netrc could not be read" in caught.value.hint


def test_presigned_urls_work_as_they_are(server: Files, tmp_path: Path) -> None:
    """GET alone, the query as it is with every request, and nowhere else."""
    query = "?X-Amz-Credential=a%2Fb&X-Amz-Signature=abc+d"

    def signed(handler: Any) -> bool:
        return handler.command != "GET" or (not handler.path.endswith(query) and not handler.refuse(403))

    server.before = signed
    put(f"{server.url}/b.tar.gz{query}", tmp_path)
    assert whole(tmp_path)
    assert "Signature" not in (tmp_path / "x/.envpack/deployment.json").read_text()
    assert {method for method, _, _ in server.requests} == {"GET"}


def test_redirects_are_followed_without_the_password_and_renewed_when_they_expire(
    server: Files, tmp_path: Path
) -> None:
    """Releases on code hosts redirect to storage, with an URL that is valid for minutes."""
    logins: list[str | None] = []
    tickets = 0

    def lead(handler: Any) -> bool:
        nonlocal tickets
        tickets += 1
        handler.redirect(f"{server.url}/b.tar.gz?ticket={tickets}")
        return True

    def check(handler: Any) -> bool:
        logins.append(handler.headers.get("Authorization"))
        expired = len(server.requests) > 3 and handler.path.endswith("ticket=1")
        return bool(expired and not handler.refuse(403))

    server.before = check
    with serving({}, before=lead) as front:
        put(f"http://ann:secret@{front.url.partition('://')[2]}/latest", tmp_path)
    assert whole(tmp_path)
    assert set(logins) == {None}
    assert 2 <= tickets <= 5


@pytest.mark.parametrize("name", ["Umgebung-ä.tar.gz", "Umgebung-%C3%A4.tar.gz"])
def test_a_redirect_to_a_name_as_it_is_is_followed(name: str, server: Files, tmp_path: Path) -> None:
    server.before = lambda handler: handler.path != "/b.tar.gz" and not handler.redirect("/b.tar.gz")
    header = f"{server.url}/{name}".encode().decode("latin-1")  # as http.server writes headers
    with serving({}, before=lambda handler: handler.redirect(header) or True) as front:
        put(f"{front.url}/latest", tmp_path)
    assert "/Umgebung-%C3%A4.tar.gz" in [path for _, path, _ in server.requests]


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "http://[", ""])
def test_redirects_to_elsewhere_are_not_followed(where: str, tmp_path: Path) -> None:
    with serving({}, before=lambda handler: handler.redirect(where) or True) as server:
        refused(f"{server.url}/b", tmp_path)


def test_proxies_are_those_of_the_environment(server: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("://", "://ann:secret@"))
    with open_bundle("http://far.invalid/b.tar.gz") as bundle:
        assert bundle.manifest.name == "demo"
    assert server.requests[0][1] == "http://far.invalid/b.tar.gz"
    monkeypatch.setenv("no_proxy", "far.invalid")
    with pytest.raises(FetchError, match=r"far\.invalid"):
        open_source("http://far.invalid/b.tar.gz")
    assert proxy_for(parse_url("https://far.invalid/")) is None
    monkeypatch.setenv("no_proxy", "localhost, 10.0.0.0/8 ,[2001:db8::]/32")
    for near, far in (("10.1.2.3", "11.1.2.3"), ("[2001:db8::1]", "[2001:db9::1]")):
        assert proxy_for(parse_url(f"http://{near}/")) is None
        assert proxy_for(parse_url(f"http://{far}/")) is not None
    monkeypatch.setenv("https_proxy", "socks5://ann:secret@localhost:1080")
    with pytest.raises(UsageError, match=r"socks5://localhost$"):
        proxy_for(parse_url("https://near.invalid/"))


# --- what is given ---


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("s3://bucket/key", "aws s3 presign"),
        ("gs://bucket/key", "gcloud storage sign-url"),
        ("ftp://host/b", "https"),
        ("https://", "https://host/path"),
        ("http://host:port/b", ""),
        ("file://elsewhere/b", "file:///path"),
    ],
)
def test_other_places_get_an_error_that_says_what_to_give(where: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(where)
    assert hint in caught.value.hint


def test_paths_and_urls() -> None:
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("a//b") == Path("a/b")
    assert local_path("C:/x") == Path("C:/x")
    assert local_path("https://h//p") == "https://h//p"
    assert shown("https://u:p@h:8/p?sig=1#f") == "https://h:8/p"
    assert append_suffix("https://h/b.tar.gz?v=1", ".minisig") == "https://h/b.tar.gz.minisig?v=1"
    assert append_suffix(Path("a/b.tar.gz"), ".minisig") == Path("a/b.tar.gz.minisig")
    with pytest.raises(IntegrityError, match="for a bundle from a pipe"):
        append_suffix("-", ".minisig")


def test_urls_are_requested_unchanged() -> None:
    url = parse_url("HTTPS://User:pa%20ss@Exämple.org:8443/a b/%2F?q=1&r=ü#part")
    assert url.origin == ("https", "xn--exmple-cua.org", 8443)
    assert url.target == "/a%20b/%2F?q=1&r=%C3%BC"
    assert url.authorization == basic("User", "pa ss")
    assert str(url) == "https://xn--exmple-cua.org:8443/a%20b/%2F"
    assert parse_url("http://[::1]/x").netloc == "[::1]"
