"""A record that is damaged: every command says so or does without it, and none of them ends in a bug."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.command_line import envpack
from support.sample_deployments import deploy_version

DAMAGE = (
    b"[" * 100_000 + b"]" * 100_000,
    b'{"destination": "/a\\u0000b", "generation": 2, "name": "a\\u0000", "store": "\\u0000"}',
    b'{"destination": "/a\\ud800/b", "store": "\\ud800", "prefixes": ["/\\ud800"], "from": "\\ud800"}',
    b"/a\0b\n",
    b'{"generation": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
    b"",
)
COMMANDS = (
    "list --scan {}",
    "verify {}/x",
    "check {}/x --no-check",
    "history {}/x",
    "inspect {}/x",
    "rollback {}/x",
)
LAST = ("move {}/x {}/y", "deploy {}/demo-2.0.tar.gz {}/y", "remove {}/y --force", "remove {}/x --force")


@pytest.mark.parametrize(
    ("file", "data"),
    [
        pytest.param(file, data, marks=[] if data in usual else [pytest.mark.long])
        for file, usual in (
            ("deployment.json", DAMAGE),
            ("prefix", DAMAGE[3:]),
            ("manifest.json", (DAMAGE[0], DAMAGE[-1])),
            ("paths.json", (DAMAGE[0], DAMAGE[-1])),
        )
        for data in DAMAGE
    ],
)
def test_a_damaged_record_is_no_bug(tmp_path: Path, file: str, data: bytes) -> None:
    deploy_version(tmp_path, "1.0")
    deploy_version(tmp_path, "2.0")
    for tree in (tmp_path / "x", tmp_path / ".x.envpack/1"):
        (tree / ".envpack" / file).write_bytes(data)
    for command in (*COMMANDS, *LAST):
        done = envpack(*command.format(*[tmp_path] * 2).split())
        assert "bug" not in done.err, (command, done.err)


@pytest.mark.parametrize("data", DAMAGE)
def test_a_deployment_with_a_damaged_record_is_reported_replaced_and_removed(tmp_path: Path, data: bytes) -> None:
    deploy_version(tmp_path, "1.0")
    (tmp_path / "x/.envpack/deployment.json").write_bytes(data)
    done = envpack("verify", tmp_path / "x")
    assert done.code == 7 and "deployment.json can't be read" in done.err
    deploy_version(tmp_path, "2.0")
    assert (tmp_path / "x/lib/version").read_text() == "2.0"
    assert envpack("remove", tmp_path / "x").code == 0


@pytest.mark.parametrize("data", DAMAGE)
def test_other_damaged_files_of_the_state_are_no_bug(tmp_path: Path, registry: Path, data: bytes) -> None:
    deploy_version(tmp_path, "1.0")
    deploy_version(tmp_path, "2.0")
    for name in ("moving", "swap", "exchange", "journal"):
        (tmp_path / ".x.envpack" / name).write_bytes(data)
    (registry / ("0" * 64)).write_bytes(b"/a\0b\n")
    for command in ("list", "rollback {}/x", "deploy {}/demo-2.0.tar.gz {}/x", "remove {}/x"):
        done = envpack(*command.format(*[tmp_path] * 2).split())
        assert done.code == 0, (command, done.err)


@pytest.mark.parametrize(
    ("check", "shown"),
    [
        ({"check": True, "overridden": 7}, "passed"),
        ({"check": True, "overridden": ["kernel", 7]}, "allowed: kernel, 7"),
        ({"check": True, "overridden": "all"}, "passed"),
        ([7], ""),
    ],
)
def test_a_check_of_another_form_is_listed(tmp_path: Path, check: Any, shown: str) -> None:
    deploy_version(tmp_path, "1.0")
    place = tmp_path / "x/.envpack/deployment.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "check": check}))
    done = envpack("list", "--json", "--scan", tmp_path)
    assert (done.code, [found["host"] for found in json.loads(done.out)["result"]["deployments"]]) == (0, [shown])
