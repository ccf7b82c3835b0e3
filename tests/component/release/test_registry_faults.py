"""Registries that fail: credentials, expired tokens, lost, stalled and altered responses, killed publishers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.publish.oci import upload
from envpack.publish.oci.publisher import open_repository
from envpack.publish.release import publish_files
from envpack.release.documents import files_of
from envpack.runtime.report import Reporter
from envpack.runtime.transport.http import connection, pool
from support import killed_at_each_request
from support.bundle_factory import file, make_bundle, text
from support.command_line import envpack
from support.registries import IDENTITY, PASSWORD, Proxy, docker_login, docker_registry, proxied

TAG = "1-20251219-linux-64"
STEP = 5
"""Tests among which the requests are divided at which a publisher is killed; the default suite has a sample."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def proxy(registry: str) -> Iterator[Proxy]:
    with proxied(registry) as server:
        yield server


@pytest.fixture(autouse=True)
def quick_and_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"demo-{TAG}.tar.gz"
    items = [file("lib/version", b"1"), file("bin/activate", b"true\n"), text("bin/tool", b"@\n", 0o755)]
    make_bundle(path, {"environment": items}, name="demo", version="1")
    return path


def publish(bundle: Path, proxy: Proxy, repository: str, **environ: str) -> tuple[int, str]:
    done = envpack("publish", bundle, f"oci://{proxy.host}/{repository}", **environ)
    return done.code, done.out + done.err


def is_whole(host: str, repository: str, root: Path) -> bool:
    """Return whether a release is there, which must then be whole."""
    done = envpack("releases", f"oci://{host}/{repository}", "--json")
    assert done.code == 0, done.err
    if not json.loads(done.out)["result"]["releases"]:
        return False
    deployed = envpack("deploy", f"oci://{host}/{repository}:{TAG}", root)
    assert deployed.code == 0, deployed.err
    return True


def test_wrong_credentials_are_refused_and_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = made(tmp_path / "dist")
    with docker_registry(tmp_path / "registry", password=True) as host:
        place = f"oci://{host}/demo"
        anonymous = envpack("publish", bundle, place)
        assert anonymous.code == 10 and f"docker login {host}" in anonymous.err
        docker_login(tmp_path / "docker", host, "wrong-password")
        wrong = envpack("publish", bundle, place, DOCKER_CONFIG=str(tmp_path / "docker"))
        assert wrong.code == 10 and "no permission" in wrong.err
        assert "wrong-password" not in wrong.err and "YW5uO" not in wrong.err
        docker_login(tmp_path / "docker", host)
        good = envpack("publish", bundle, place, DOCKER_CONFIG=str(tmp_path / "docker"))
        assert good.code == 0 and PASSWORD not in good.err + good.out
        assert envpack("deploy", place, tmp_path / "x").code == 6
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        deployed = envpack("deploy", place, tmp_path / "x")
        assert deployed.code == 0, deployed.err
        assert PASSWORD not in (tmp_path / "x/.envpack/deployment.json").read_text()


def test_tokens_that_expire_midway_are_renewed(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is good for five requests."""
    proxy.tokens = 5
    docker_login(tmp_path / "docker", proxy.host)
    code, said = publish(made(tmp_path / "dist"), proxy, "tokens", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert code == 0, said
    assert len(proxy.left) > 3 and "repository:tokens:pull,push" in proxy.scopes
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    proxy.scopes.clear()
    proxy.tokens = 2
    assert is_whole(proxy.host, "tokens", tmp_path / "x")
    assert set(proxy.scopes) == {"repository:tokens:pull"}


def test_a_new_token_may_have_expired_before_it_is_used(proxy: Proxy, tmp_path: Path) -> None:
    """As one that another thread got, with a lifetime of some requests."""

    def spend(handler: Any) -> bool:
        for token in {"token-1", "token-2"} & handler.proxy.left.keys():
            handler.proxy.left[token] = 0
        return False

    proxy.tokens, proxy.before = 5, spend
    docker_login(tmp_path / "docker", proxy.host)
    code, said = publish(made(tmp_path / "dist"), proxy, "tokens", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert code == 0, said
    assert len(proxy.left) > 3


def test_an_identity_token_is_exchanged_for_a_token(proxy: Proxy, tmp_path: Path) -> None:
    proxy.tokens = 100
    (tmp_path / "docker").mkdir()
    config = {"auths": {proxy.host: {"auth": "YW5uOg==", "identitytoken": IDENTITY}}}
    (tmp_path / "docker/config.json").write_text(json.dumps(config))
    code, said = publish(made(tmp_path / "dist"), proxy, "identity", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert code == 0 and IDENTITY not in said, said
    assert set(proxy.logins) == {""} and set(proxy.scopes) >= {"repository:identity:pull,push"}


def test_a_token_service_that_refuses(proxy: Proxy, tmp_path: Path) -> None:
    proxy.tokens = 5
    docker_login(tmp_path / "docker", proxy.host, "wrong-password")
    code, said = publish(made(tmp_path / "dist"), proxy, "refused", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert code == 10 and "the token service answered 401" in said and "wrong-password" not in said


def once_for_each(fault: str) -> Any:
    """Return what fails the first time that each request is made, and then works."""
    seen: set[tuple[str, str, str]] = set()

    def before(handler: Any) -> bool:
        key = (handler.command, handler.path.partition("?")[0].rpartition("/uploads/")[0] or handler.path, fault)
        if key in seen or handler.command == "HEAD":
            return False
        seen.add(key)
        if fault == "drop":
            handler.drop()
        elif fault == "drop after":
            handler.forward(cut=0)
        elif fault == "busy":
            handler.answer(503, b"")
        elif fault == "limit":
            handler.answer(429, b"", {"Retry-After": "0"})
        elif fault == "cut":
            handler.forward(cut=10)
        return True

    return before


@pytest.mark.parametrize("fault", ["drop", "drop after", "busy", "limit", "cut"])
def test_each_request_may_fail_once(proxy: Proxy, registry: str, fault: str, tmp_path: Path) -> None:
    proxy.before = once_for_each(fault)
    repository = f"once-{fault.replace(' ', '-')}"
    code, said = publish(made(tmp_path / "dist"), proxy, repository)
    assert code == 0, said
    proxy.before = once_for_each(fault)
    assert is_whole(proxy.host, repository, tmp_path / "x")


def test_a_registry_that_stalls_is_given_up(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(upload, "ANSWER_SECONDS", 0.5)
    ended = threading.Event()

    def stall(handler: Any) -> bool:
        if handler.command == "PUT" and "/blobs/" in handler.path:
            ended.wait(60)
        return False

    proxy.before = stall
    try:
        code, said = publish(made(tmp_path / "dist"), proxy, "stalled")
    finally:
        ended.set()
    assert code == 10 and "timed out" in said
    proxy.before = None
    assert not is_whole(proxy.host, "stalled", tmp_path / "x")


@pytest.mark.parametrize("what", ["/manifests/", "/blobs/"])
def test_altered_responses_are_refused(proxy: Proxy, what: str, tmp_path: Path) -> None:
    repository = f"altered{what.replace('/', '-').rstrip('-')}"
    assert publish(made(tmp_path / "dist"), proxy, repository)[0] == 0
    digest = envpack("deploy", f"oci://{proxy.host}/{repository}:{TAG}", tmp_path / "x")
    assert digest.code == 0
    record = json.loads((tmp_path / "x/.envpack/deployment.json").read_bytes())["bundle"]

    def alter(path: str, data: bytes) -> bytes:
        return data.replace(b'"', b"'", 1) if what in path and b"{" in data else data[:-1] + b"\0" * bool(data)

    proxy.alter = alter
    done = envpack("deploy", record, tmp_path / "y")
    assert done.code == 7 and not (tmp_path / "y").exists(), done.err


def test_bytes_that_are_altered_on_their_way_to_the_registry_are_never_published(
    proxy: Proxy, tmp_path: Path
) -> None:
    def alter(handler: Any) -> bool:
        if handler.command != "PUT" or "/blobs/" not in handler.path:
            return False
        handler.body = handler.read_body()[:-1] + b"\0"
        return False

    proxy.before = alter
    code, said = publish(made(tmp_path / "dist"), proxy, "flipped")
    assert code == 10 and "DIGEST_INVALID" in said
    proxy.before = None
    assert not is_whole(proxy.host, "flipped", tmp_path / "x")


def test_uploads_in_chunks(proxy: Proxy, tmp_path: Path) -> None:
    code, said = publish(made(tmp_path / "dist"), proxy, "chunks", ENVPACK_OCI_CHUNK="300")
    assert code == 0, said
    assert sum(method == "PATCH" for method, _ in proxy.requests) > 2
    assert is_whole(proxy.host, "chunks", tmp_path / "x")


def test_layers_are_mounted_from_repositories_that_are_named(proxy: Proxy, tmp_path: Path) -> None:
    bundle = made(tmp_path / "dist")
    assert publish(bundle, proxy, "first")[0] == 0
    proxy.reset()
    assert publish(bundle, proxy, "second", ENVPACK_OCI_MOUNT_FROM="first")[0] == 0
    assert proxy.sent == 0
    assert is_whole(proxy.host, "second", tmp_path / "x")


def test_credentials_are_not_sent_to_the_host_of_a_redirect(
    proxy: Proxy, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.tokens = 100
    docker_login(tmp_path / "docker", proxy.host)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert publish(made(tmp_path / "dist"), proxy, "moved", DOCKER_CONFIG=str(tmp_path / "docker"))[0] == 0
    with proxied(registry) as storage:
        got: list[str] = []

        def keep(handler: Any) -> bool:
            got.append(handler.headers.get("Authorization", ""))
            return False

        def redirect(handler: Any) -> bool:
            if "/blobs/" not in handler.path:
                return False
            handler.answer(307, b"", {"Location": f"http://{storage.host}{handler.path}"})
            return True

        storage.before, proxy.before = keep, redirect
        assert is_whole(proxy.host, "moved", tmp_path / "x")
        assert len(got) > 1 and set(got) == {""}


def test_the_password_is_not_sent_to_the_host_that_a_token_service_redirects_to(
    proxy: Proxy, registry: str, tmp_path: Path
) -> None:
    proxy.tokens = 100
    docker_login(tmp_path / "docker", proxy.host)

    def redirect(handler: Any) -> bool:
        if not handler.path.startswith("/token"):
            return False
        proxy.logins.append(handler.headers.get("Authorization", ""))
        handler.answer(307, b"", {"Location": f"http://{other.host}{handler.path}"})
        return True

    with proxied(registry) as other:
        proxy.before = redirect
        publish(made(tmp_path / "dist"), proxy, "redirected", DOCKER_CONFIG=str(tmp_path / "docker"))
        assert other.logins and set(other.logins) == {""} and "" not in proxy.logins


def test_a_tag_that_another_publisher_wrote_meanwhile_is_not_replaced(
    proxy: Proxy, registry: str, tmp_path: Path
) -> None:
    """The other one is as quick as it can be: between the upload and the tag."""
    mine, other = made(tmp_path / "dist"), tmp_path / "other" / f"demo-{TAG}.tar.gz"
    other.parent.mkdir()
    make_bundle(other, {"environment": [file("other", b"")]}, name="demo", version="1")
    begun = False

    def overtake(handler: Any) -> bool:
        nonlocal begun
        if not begun and handler.command == "PUT" and "/manifests/" in handler.path:
            begun = True
            publisher = open_repository(f"oci://{registry}/race", {}, insecure=False)
            assert publish_files(publisher, files_of(other, Reporter())[0])
        return False

    proxy.before = overtake
    code, said = publish(mine, proxy, "race")
    assert code == 10 and "is another bundle" in said
    listed = json.loads(envpack("releases", f"oci://{registry}/race", "--json").out)["result"]["releases"]
    assert [each["size"] for each in listed] == [other.stat().st_size]


@pytest.mark.parametrize(
    ("first", "step", "least"),
    [(7, 35, 5), *(pytest.param(first, STEP, 20, marks=pytest.mark.long) for first in range(STEP))],
)
def test_a_publisher_that_is_killed_at_any_request_is_completed_by_the_same_command(
    registry: str, first: int, step: int, least: int, tmp_path: Path
) -> None:
    bundle = made(tmp_path / "dist")
    words = [killed_at_each_request.__file__, bundle, registry, first, step]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > least
