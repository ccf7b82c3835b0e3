"""Deployments that change, in real processes: what runs goes on, what is killed or interrupted is put right."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envpack.bundle.codecs import encoder_for
from envpack.bundle.writer import BundleWriter
from envpack.bundle.zipapp.runtime_zip import runtime_files
from envpack.cli.commands.schema import load
from envpack.interop.deploy import deploy_archive
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.deployment.record import read_record
from envpack.runtime.report import Reporter
from support.bundle_factory import draft, file, text
from support.conda_pack_archives import tar
from support.forked import envpack as forked
from support.sample_deployments import bundle, deploy_version, state_entries, whole_version
from support.shells import BARE, SHELLS, Session, installed


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "envpack", *map(str, arguments)]


def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def envpack(*arguments: object, code: int = 0, cwd: Path | None = None) -> dict[str, Any]:
    """Runs a command with --json; its object, which is as its schema says, with that exit code."""
    done = forked(*arguments, "--json", cwd=cwd)
    assert done.returncode == code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    Draft202012Validator(load(str(arguments[0]))).validate(answer)
    return answer


def until(path: Path) -> None:
    """Waits until a process has made this."""
    while not path.exists():
        time.sleep(0.01)


@pytest.fixture
def x(tmp_path: Path) -> Path:
    """Version 1, deployed."""
    deploy_version(tmp_path, "1")
    return tmp_path / "x"


def blocking(tmp_path: Path, version: str) -> tuple[Path, Path, Path]:
    """A bundle; its test creates the first file, and continues when the second exists or the first is gone."""
    started, go = tmp_path / f"started-{version}", tmp_path / f"go-{version}"
    test = f"touch '{started}'; while test -e '{started}' -a ! -e '{go}'; do sleep 0.02; done"
    return bundle(tmp_path, version, test=(test,)), started, go


# --- what runs meanwhile ---


def activatable(folder: Path, version: str) -> Path:
    """A bundle with the real runtime, and a program that says its version twice: at once, and when asked."""
    path = folder / f"run-{version}.tar.gz"
    program = f"#!/bin/sh\necho @ {version}\nread line\necho still {version}\n".encode()
    items = [file(name, data, mode) for name, (data, mode) in sorted(runtime_files().items())]
    items += [text("bin/program", program, 0o755), file("conda-meta/history", b"")]
    with BundleWriter(path, encoder_for(path.name), jobs=2) as writer:
        writer.add_segment("environment", items)
        writer.finish(draft(name="run", version=version))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [activatable(folder, version) for version in ("1", "2")]


@pytest.mark.parametrize("name", SHELLS)
def test_running_programs_continue_and_new_ones_use_the_new_generation(
    tmp_path: Path, runs: list[Path], name: str
) -> None:
    shell, x = installed(name), tmp_path / "x"
    envpack("deploy", runs[0], x)
    lines = [shell.source(x), "program", "program"]
    script = tmp_path / "script"
    script.write_text("".join(f"{line}\n" for line in lines))
    with subprocess.Popen(
        [*shell.argv, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=BARE, cwd=x, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        assert running.stdout.readline() == f"{x} 1\n"
        envpack("deploy", runs[1], x)
        running.stdin.write("\n")
        running.stdin.flush()
        said = [running.stdout.readline() for _ in range(2)]
        assert said == ["still 1\n", f"{x} 2\n"]  # what is begun goes on; the shell's next one is the new one's
        running.communicate("\n")
    done = Session(tmp_path).run(shell, lines[:2])
    assert done.out.splitlines()[0] == f"{x} 2"
    envpack("rollback", x)
    done = Session(tmp_path).run(shell, lines[:2])
    assert done.out.splitlines()[0] == f"{x} 1"


# --- killed, interrupted ---


def test_killed_during_its_tests_the_new_one_stays_and_says_so(x: Path, tmp_path: Path) -> None:
    new, started, go = blocking(tmp_path, "2")
    process = start("deploy", new, x)
    until(started)
    process.kill()
    process.communicate()
    go.touch()
    assert whole_version(x) == "2"
    record = read_record(x)
    assert record is not None and record.tested is None
    states = [(item["version"], item["state"], item["tested"]) for item in generations(x)]
    assert states == [("2", "current", None), ("1", "kept", True)]
    assert envpack("rollback", x)["result"]["version"] == "1"
    assert whole_version(x) == "1" and state_entries(x) == ["2"]


def generations(x: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = envpack("history", x)["result"]["generations"]
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_the_old_one_is_there_again(x: Path, tmp_path: Path, number: signal.Signals) -> None:
    new, started, go = blocking(tmp_path, "2")
    process = start("deploy", new, x)
    until(started)
    assert whole_version(x) == "2"
    process.send_signal(number)
    _, said = process.communicate()
    go.touch()
    assert process.returncode == 130 and "nothing incomplete" in said
    assert whole_version(x) == "1" and state_entries(x) == []
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


# --- two at once ---


def test_the_second_gives_up_at_once_or_waits(x: Path, tmp_path: Path) -> None:
    new, started, go = blocking(tmp_path, "2")
    first = start("deploy", new, x)
    until(started)
    third = bundle(tmp_path, "3")
    for arguments in (("deploy", third, x), ("rollback", x), ("remove", x), ("move", x, tmp_path / "y")):
        error = envpack(*arguments, code=10)["error"]
        assert "another envpack process has locked" in error["message"]
    waiting = start("deploy", third, x, "--wait", "--keep", "2")
    time.sleep(0.3)
    assert waiting.poll() is None
    go.touch()
    assert first.wait() == 0 and waiting.wait() == 0
    first.communicate()
    waiting.communicate()
    assert whole_version(x) == "3" and state_entries(x) == ["1", "2"]


def test_a_lock_goes_with_its_process(x: Path, tmp_path: Path) -> None:
    new, started, go = blocking(tmp_path, "2")
    first = start("deploy", new, x)
    until(started)
    first.kill()
    first.communicate()
    assert envpack("deploy", bundle(tmp_path, "3"), x)["result"]["generation"] == 3
    go.touch()
    assert whole_version(x) == "3"


def test_many_at_once_leave_one_whole(tmp_path: Path) -> None:
    x = tmp_path / "x"
    bundles = [bundle(tmp_path, str(number)) for number in range(4)]
    processes = [start("deploy", each, x, "--wait", "--keep", "2", "-q") for each in bundles]
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    assert whole_version(x) in "0123"
    listed = generations(x)
    assert [item["generation"] for item in listed] == [4, 3, 2, 1]
    assert [item["state"] for item in listed] == ["current", "kept", "kept", "gone"]
    assert {item["version"] for item in listed} == set("0123")


def test_many_at_once_to_an_empty_place_one_wins(tmp_path: Path) -> None:
    x = tmp_path / "new/x"
    slow, started, go = blocking(tmp_path, "1")
    first = start("deploy", slow, x)
    until(started)
    others = [start("deploy", bundle(tmp_path, "2"), x) for _ in range(2)]
    for other in others:
        other.communicate()
    go.touch()
    first.communicate()
    assert [first.returncode, *(other.returncode for other in others)] == [0, 10, 10]
    assert whole_version(x) == "1" and state_entries(x) == []


# --- places ---


def test_a_destination_however_it_is_named(tmp_path: Path) -> None:
    home = tmp_path / "with blanks"
    (home / "real").mkdir(parents=True)
    (home / "link").symlink_to("real")
    for version in ("1", "2"):
        bundle(tmp_path, version)
    envpack("deploy", tmp_path / "demo-1.tar.gz", "link/an env", cwd=home)
    envpack("deploy", tmp_path / "demo-2.tar.gz", home / "real/../link/an env/")
    place = home / "link/an env"  # as given, and on the real path for every lock and name beside it
    assert whole_version(place) == "2" and state_entries(home / "real/an env") == ["1"]
    envpack("rollback", "an env", cwd=home / "link")
    assert whole_version(place) == "1"
    envpack("move", "./an env", "another", cwd=home / "real")
    assert whole_version(home / "real/another") == "1"
    assert [item["path"] for item in envpack("list", "--scan", tmp_path)["result"]["deployments"]].count(
        str(home / "real/another")
    ) == 1
    envpack("remove", home / "link/another")
    assert list((home / "real").iterdir()) == []


@pytest.fixture
def read_only(x: Path) -> Iterator[list[str]]:
    """Return the words before a command that make the folder of ``x`` read-only, for root too."""
    if os.geteuid() != 0:
        x.parent.chmod(0o555)
        yield []
        x.parent.chmod(0o755)
        return
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", script, str(x.parent)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield prefix


def test_in_a_folder_that_can_t_be_written_nothing_changes(x: Path, tmp_path: Path, read_only: list[str]) -> None:
    new = bundle(Path(x.parent), "1")
    commands = [("deploy", new, x), ("rollback", x), ("move", x, x.with_name("y"))]
    if read_only:  # else one's own directory can be emptied, see test_places
        commands.append(("remove", x))
    for arguments in commands:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ENVPACK_STATE": "/proc/nowhere"}
        done = subprocess.run([*read_only, *command(*arguments)], capture_output=True, text=True, env=environment)
        assert done.returncode == 10, done.stderr
        assert f"can't write to {tmp_path}" in done.stderr.splitlines()[0]
    assert whole_version(x) == "1" and state_entries(x) == []


def test_without_exchange_in_a_real_process(x: Path, tmp_path: Path) -> None:
    """The kernel's own refusal, as filesystems without RENAME_EXCHANGE give it."""
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    refusing = [tracer, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=renameat2"]
    refusing += ["-e", "inject=renameat2:error=EINVAL"]
    for arguments, version, kept in (
        (("deploy", bundle(tmp_path, "2"), x), "2", ["1"]),
        (("rollback", x), "1", ["2"]),
        (("deploy", bundle(tmp_path, "3", test=("false",)), x), "1", ["2"]),
    ):
        done = subprocess.run([*refusing, *command(*arguments)], capture_output=True, text=True)
        assert (done.returncode == 0) == (arguments[0] == "rollback" or version == "2"), done.stderr
        assert whole_version(x) == version and state_entries(x) == kept


# --- other tools' archives ---


def test_archives_of_other_tools_upgrade_and_come_back(tmp_path: Path) -> None:
    x = tmp_path / "x"
    first = deploy_archive(tar(tmp_path / "demo.tar.gz"), x, reporter=Reporter())
    deploy_version(tmp_path, "2")
    assert whole_version(x) == "2" and state_entries(x) == ["1"]
    assert rollback(x, reporter=Reporter()).generation == first.generation == 1
    assert (x / "bin/tool").read_text() == f"#!/bin/sh\necho {x}\n"
    again = envpack("deploy", tmp_path / "demo.tar.gz", x, "--keep", "0")["result"]
    assert (again["generation"], again["replaced"], again["kept"]) == (3, 1, [])
    envpack("move", x, tmp_path / "y")
    assert (tmp_path / "y/bin/tool").read_text() == f"#!/bin/sh\necho {tmp_path / 'y'}\n"
    envpack("remove", tmp_path / "y")
    assert not (tmp_path / "y").exists()


# --- what a person sees ---


def in_terminal(*arguments: object) -> str:
    """The command's output on a terminal of 80 columns."""
    main, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    process = subprocess.Popen(command(*arguments), stdin=end, stdout=end, stderr=end, env=environment)
    os.close(end)
    said = b""
    try:
        while select.select([main], [], [], 60)[0]:
            said += os.read(main, 1 << 16)
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(main)
    process.wait()
    return said.decode().replace("\r\n", "\n")


def test_lists_fit_a_terminal_of_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_STATE", str(tmp_path / "state"))
    x = tmp_path / "x"
    for version in ("2026.11.21.1234567890+with.a.long.local.version", "2"):
        deploy_version(tmp_path, version, run_tests=False)
    history = in_terminal("history", x, "-v")
    lines = history.splitlines()
    assert lines[0] == str(x)
    assert lines[1].startswith("  *  2  20") and "demo 2" in lines[1]
    assert lines[2].startswith("     1  20") and len(lines) == 3
    assert max(map(len, lines[1:])) <= 80
    listed = in_terminal("list").splitlines()
    assert listed[0] == str(x)
    assert listed[1].startswith("  demo 2, generation 2, 20") and listed[1].endswith(", untested")
    assert "1 previous generation" in listed[2]
    assert max(map(len, listed[1:])) <= 80


def test_names_from_bundles_are_harmless_in_lists(tmp_path: Path) -> None:
    deploy_version(tmp_path, "1")
    record = tmp_path / "x/.envpack/deployment.json"
    record.write_text(record.read_text().replace('"name": "demo"', '"name": "\\u001b[2Jdemo\\u202e"'))
    for arguments in (("history", tmp_path / "x"), ("list",), ("rollback", tmp_path / "x", "--to", "1")):
        done = subprocess.run(command(*arguments), capture_output=True, text=True, check=True)
        assert "demo" in done.stdout and "\x1b" not in done.stdout and "\u202e" not in done.stdout


def test_errors_of_every_command_are_as_their_schema_says(tmp_path: Path) -> None:
    for arguments in (("rollback", "x"), ("history", "x"), ("remove", "x"), ("move", "x", "y")):
        assert envpack(*arguments, code=10, cwd=tmp_path)["error"]["type"] == "DestinationError"
    assert envpack("list", "--scan", tmp_path / "nowhere", code=2)["error"]["type"] == "UsageError"
    assert list(tmp_path.iterdir()) == []
