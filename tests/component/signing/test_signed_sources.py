"""A host's policy, and --key, for bundles on servers and pipes: the signature is looked for beside the URL."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.cli.app import main
from envpack.cli.console import Console
from envpack.cli.terminal import Stream
from envpack.signing.bundle import sign_bundle
from envpack.signing.keys import SecretKey, new_key
from support.bundle_factory import file, make_bundle
from support.servers import Files, serving

PLAIN: Any = (False, False, True, None)


@pytest.fixture
def key() -> SecretKey:
    return new_key()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    make_bundle(tmp_path / "bundle/b.tar.gz", {"environment": [file("bin/activate", b"true\n")]})
    return tmp_path / "bundle/b.tar.gz"


@pytest.fixture
def root(tmp_path: Path, key: SecretKey) -> Path:
    """The root folder of a host that demands signatures of this key."""
    (tmp_path / "root/etc/envpack").mkdir(parents=True)
    (tmp_path / "root/etc/envpack/policy.toml").write_text(f'require = ["{key.public.text}"]')
    return tmp_path / "root"


def run(root: Path, *words: object) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    console = Console(Stream(out, *PLAIN), Stream(err, *PLAIN), {}, root=root)
    return main([str(word) for word in words], console), out.getvalue() + err.getvalue()


def serve(server: Files, bundle: Path) -> None:
    server.data = {f"/{path.name}": path.read_bytes() for path in bundle.parent.iterdir()}


def test_a_policy_holds_for_servers(root: Path, bundle: Path, key: SecretKey, tmp_path: Path) -> None:
    with serving({}) as server:
        deploy = ("deploy", "--no-check", f"{server.url}/b.tar.gz?token=secret", tmp_path / "x")
        serve(server, bundle)
        code, said = run(root, *deploy)
        assert code == 7 and "requires a signature" in said and "404" in said and "secret" not in said
        assert ("GET", "/b.tar.gz.minisig?token=secret") in {request[:2] for request in server.requests}
        sign_bundle(bundle, new_key(), "", FAST)
        serve(server, bundle)
        assert run(root, *deploy)[0] == 7
        assert not (tmp_path / "x").exists()
        sign_bundle(bundle, key, "", FAST)
        serve(server, bundle)
        code, said = run(root, *deploy)
        assert code == 0 and f"signed by {key.public.name}" in said


def test_a_policy_refuses_what_is_piped_in(root: Path, bundle: Path, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, bundle.read_bytes())
    os.close(theirs)
    stdin = os.dup(0)
    os.dup2(ours, 0)
    os.close(ours)
    try:
        code, said = run(root, "deploy", "--no-check", "-", tmp_path / "x")
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    assert code == 7 and "from a pipe" in said
    assert not (tmp_path / "x").exists()


def test_verify_checks_the_signature_of_the_manifest_that_it_verifies(
    bundle: Path, key: SecretKey, tmp_path: Path
) -> None:
    """A server that gives the signed bundle at first, and another one from then on."""
    sign_bundle(bundle, key, "", FAST)
    make_bundle(tmp_path / "other.tar.gz", {"environment": [file("bin/activate", b"false\n")]}, name="other")
    right, other = bundle.read_bytes(), (tmp_path / "other.tar.gz").read_bytes()
    for first, later, expected in ((right, other, 0), (other, right, 7)):
        with serving({}, ranges=False) as server:
            serve(server, bundle)
            answers = iter([first, *[later] * 9])

            def swap(handler: Any, server: Files = server, answers: Iterator[bytes] = answers) -> bool:
                if handler.path == "/b.tar.gz":
                    server.data["/b.tar.gz"] = next(answers)
                return False

            server.before = swap
            code, said = run(tmp_path, "verify", f"{server.url}/b.tar.gz", "--key", key.public.text)
        assert code == expected and "other" not in said


def test_verify_asks_a_server_for_the_signature(bundle: Path, key: SecretKey, tmp_path: Path) -> None:
    sign_bundle(bundle, key, "for production", FAST)
    with serving({}) as server:
        serve(server, bundle)
        url = f"{server.url}/b.tar.gz"
        code, said = run(tmp_path, "verify", url, "--key", key.public.text)
        assert code == 0 and "for production" in said
        assert run(tmp_path, "verify", url, "--key", new_key().public.text)[0] == 7
    code, said = run(tmp_path, "verify", "-", "--key", key.public.text)
    assert code == 2 and "from stdin" in said
