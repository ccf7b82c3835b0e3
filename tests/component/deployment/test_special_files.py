"""A pipe, a socket or a device where a file of a deployment was: no command waits for it, or reads without end.

A command that waits makes these tests wait for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import envpack
from support.sample_deployments import bundle, deploy_version

FILES = (
    "x/lib/version",
    "x/bin/tool",
    "x/.envpack/deployment.json",
    "x/.envpack/manifest.json",
    "x/.envpack/manifest.sha256",
    "x/.envpack/paths.json",
    "x/.envpack/prefix",
    ".x.envpack/lock",
    ".x.envpack/1/.envpack/deployment.json",
)

COMMANDS = (
    "list --scan {}",
    "verify {}/x",
    "check {}/x",
    "inspect {}/x",
    "history {}/x",
    "repair {}/x {}/demo-2.0.tar.gz",
    "pack -p {}/x -o {}/out.tar.gz --no-cache -f",
    "deploy {}/demo-2.0.tar.gz {}/x",
    "rollback {}/x",
    "move {}/x {}/y",
    "remove {}/y",
    "remove {}/x",
)


def make_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o666)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


MAKERS = (os.mkfifo, make_socket, link_to_a_device)


def tried(places: tuple[str, ...], *everywhere: str) -> list[object]:
    """A pipe at all places, the others at those of the second argument; in the long tests, all at all."""
    return [
        pytest.param(place, make, marks=[] if make is os.mkfifo or place in everywhere else [pytest.mark.long])
        for place in places
        for make in MAKERS
    ]


@pytest.mark.parametrize(
    ("file", "make"), tried(FILES, "x/bin/tool", "x/.envpack/deployment.json", ".x.envpack/lock")
)
def test_no_command_waits(tmp_path: Path, file: str, make: Callable[[Path], None]) -> None:
    deploy_version(tmp_path, "1.0")
    deploy_version(tmp_path, "2.0")
    (tmp_path / file).unlink(missing_ok=True)
    make(tmp_path / file)
    for command in COMMANDS:
        done = envpack(*command.format(*[tmp_path] * 3).split())
        assert "bug" not in done.err, command
        assert done.code < 12, command


@pytest.mark.parametrize(
    "command",
    [
        "deploy {} {}.out",
        "verify {}",
        "inspect {}",
        "check {}",
        "sign {} --key {}",
        "lock {}",
        "build {}",
        "pack -p {}",
    ],
)
@pytest.mark.parametrize("make", MAKERS)
def test_no_argument_is_waited_for(tmp_path: Path, command: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.yml")
    done = envpack(*command.format(*[tmp_path / "x.yml"] * 2).split())
    assert 1 < done.code < 12, done.err
    assert "bug" not in done.err


def test_no_signature_is_waited_for(tmp_path: Path) -> None:
    made = bundle(tmp_path, "1.0")
    assert envpack("sign", "--new-key", str(tmp_path / "k"), "--no-password").code == 0
    os.mkfifo(f"{made}.minisig")
    done = envpack("verify", str(made), "--key", str(tmp_path / "k.pub"))
    assert done.code == 7, done.err
    assert "not a regular file" in done.err


STATE = ("lock", "trash-1", "new-9", "next-9", "next-2", "7", "aside", "switching", "moving", ".switching.new")


@pytest.mark.parametrize(("name", "make"), tried(STATE, "lock", "new-9", "switching"))
def test_no_command_waits_for_a_name_in_the_state_directory(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    deploy_version(tmp_path, "1.0")
    deploy_version(tmp_path, "2.0")
    place = tmp_path / ".x.envpack" / name
    place.unlink(missing_ok=True)
    make(place)
    for command in ("list --scan {}", "history {}/x", "rollback {}/x", "remove {}/x"):
        done = envpack(*command.format(tmp_path).split())
        assert done.code != 1 and "Traceback" not in done.err, (command, done.err)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_another_user_put_into_a_state_directory_stays(tmp_path: Path) -> None:
    """Earlier versions let a group write to it, under the umask 002 in a setgid directory."""
    deploy_version(tmp_path, "1.0")
    deploy_version(tmp_path, "2.0")
    state = tmp_path / ".x.envpack"
    (state / "trash-1").mkdir()
    (state / "trash-1/theirs").touch()
    for path in (state / "trash-1", state / "trash-1/theirs"):
        os.chown(path, 12345, 12345)
    os.chown(state, -1, 12345)
    state.chmod(0o2775)
    assert envpack("remove", str(tmp_path / "x")).code == 0
    assert {str(path.relative_to(state)) for path in state.rglob("*")} == {"lock", "trash-1", "trash-1/theirs"}


def test_only_its_user_can_write_to_a_state_directory(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        deploy_version(tmp_path, "1.0")
        deploy_version(tmp_path, "2.0")
    finally:
        os.umask(mask)
    assert (tmp_path / ".x.envpack").stat().st_mode & 0o777 == 0o755
