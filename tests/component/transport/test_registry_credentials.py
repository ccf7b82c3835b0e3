"""Challenges of registries, and the credentials that docker and podman keep."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.errors import EnvpackError, UsageError
from envpack.runtime.transport.oci.auth import Challenge, is_plain, parse_challenges
from envpack.runtime.transport.oci.credentials import Credentials, find_credentials
from envpack.runtime.transport.oci.reference import parse_reference

HOST = "registry.example.org:5000"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("nonsense", []),
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer", {"realm": "https://a/t?x=1", "service": "s", "scope": "repository:a/b:pull,push"}
                )
            ],
        ),
        (
            'Basic realm="a \\"b\\", c" , BEARER Realm = "r" , service=s',
            [Challenge("basic", {"realm": 'a "b", c'}), Challenge("bearer", {"realm": "r", "service": "s"})],
        ),
        ('realm="x"', []),
        ('Bearer realm="unfinished', []),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("localhost", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("named.example.org:5000", True),
        ("named.example.org", False),
    ],
)
def test_http_is_for_this_host_and_those_that_are_named(host: str, plain: bool) -> None:
    environ = {"ENVPACK_INSECURE_REGISTRIES": "other, Named.example.org:5000"}
    assert is_plain(parse_reference(f"oci://{host}/demo"), environ) is plain


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def found(folder: Path, config: Any, repository: str = "team/demo", **environ: str) -> Credentials:
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    known = {"DOCKER_CONFIG": str(folder / "docker"), "PATH": f"{folder}:{os.environ['PATH']}", **environ}
    return find_credentials(HOST, repository, known)


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"{HOST}/team", f"{HOST}/team/demo"]
)
def test_entries_of_auths(tmp_path: Path, key: str) -> None:
    assert found(tmp_path, {"auths": {key: auth("ann", "a:b")}}) == Credentials("ann", "a:b")


def test_the_most_specific_entry_counts(tmp_path: Path) -> None:
    auths = {HOST: auth("all", "1"), f"{HOST}/team": auth("team", "2"), f"{HOST}/team/other": auth("other", "3")}
    assert found(tmp_path, {"auths": auths}).user == "team"


def test_tokens_in_auths(tmp_path: Path) -> None:
    assert found(tmp_path, {"auths": {HOST: {"identitytoken": "i", **auth("x", "")}}}).identity == "i"
    assert found(tmp_path, {"auths": {HOST: {"registrytoken": "r"}}}).token == "r"


def test_no_credentials(tmp_path: Path) -> None:
    assert found(tmp_path, {}) == Credentials()
    assert found(tmp_path, []) == Credentials()
    assert found(tmp_path, "") == Credentials()
    assert found(tmp_path, {"auths": {HOST: {}}, "credHelpers": 1}) == Credentials()
    assert find_credentials(HOST, "demo", {"HOME": str(tmp_path / "none")}) == Credentials()


def test_a_helper_for_the_host_comes_first(tmp_path: Path) -> None:
    helper(tmp_path, "one", 'read server; echo "{\\"Username\\": \\"$server\\", \\"Secret\\": \\"one $1\\"}"')
    helper(tmp_path, "all", 'echo "{\\"Username\\": \\"all\\", \\"Secret\\": \\"all\\"}"')
    config = {"credHelpers": {HOST: "one"}, "credsStore": "all", "auths": {HOST: auth("file", "file")}}
    assert found(tmp_path, config) == Credentials(HOST, "one get")
    del config["credHelpers"]
    assert found(tmp_path, config) == Credentials("all", "all")


def test_a_helper_without_credentials_leaves_it_to_the_file(tmp_path: Path) -> None:
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    config = {"credsStore": "none", "auths": {HOST: auth("file", "file")}}
    assert found(tmp_path, config) == Credentials("file", "file")


def test_an_identity_token_of_a_helper(tmp_path: Path) -> None:
    helper(tmp_path, "one", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"id\\"}"')
    assert found(tmp_path, {"credsStore": "one"}) == Credentials(identity="id")


@pytest.mark.parametrize("script", ["echo secret; exit 1", "echo secret", "echo '{\"Username\": 1}'"])
def test_the_output_of_a_helper_that_fails_is_not_printed(tmp_path: Path, script: str) -> None:
    helper(tmp_path, "bad", script)
    with pytest.raises(EnvpackError) as caught:
        found(tmp_path, {"credsStore": "bad"})
    assert "secret" not in str(caught.value.as_dict())


def test_a_helper_is_a_program_on_path(tmp_path: Path) -> None:
    with pytest.raises(EnvpackError, match="docker-credential-missing: No such file"):
        found(tmp_path, {"credsStore": "missing"})
    with pytest.raises(UsageError, match="invalid credential helper"):
        found(tmp_path, {"credsStore": "../../tmp/x"})


@pytest.mark.parametrize("content", ["{", json.dumps({"auths": {HOST: {"auth": "secret"}}})])
def test_invalid_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(tmp_path, content)
    assert "secret" not in str(caught.value.as_dict())


def test_the_order_of_the_files(tmp_path: Path) -> None:
    podman = tmp_path / "run" / "containers"
    podman.mkdir(parents=True)
    (podman / "auth.json").write_text(json.dumps({"auths": {HOST: auth("podman", "1")}}))
    (tmp_path / "named.json").write_text(json.dumps({"auths": {HOST: auth("named", "1")}}))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert found(tmp_path, {}, **environ).user == "podman"
    docker = {"auths": {HOST: auth("docker", "1")}}
    assert found(tmp_path, docker, **environ).user == "docker"
    assert found(tmp_path, docker, REGISTRY_AUTH_FILE=str(tmp_path / "named.json"), **environ).user == "named"


def test_credentials_are_not_shown_in_tracebacks() -> None:
    assert "secret" not in repr(Credentials("ann", "secret", "secret", "secret"))
