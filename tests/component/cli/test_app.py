"""Errors at the boundary of the command line: their messages and exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from envpack.cli import app
from envpack.cli.chart import bar
from envpack.cli.console import Console, Result
from envpack.cli.environments import active_environment, find_environment, name_of
from envpack.cli.options import channel_urls
from envpack.cli.terminal import Stream, error_lines
from envpack.runtime.errors import EnvpackError, IntegrityError, UsageError


def console() -> Console:
    out, err = (Stream(io.StringIO(), terminal=False, colour=False, unicode=True, width=None) for _ in range(2))
    return Console(out, err, environ={})


def raising(problem: BaseException) -> Callable[[], Result]:
    def command(console: Console) -> NoReturn:
        raise problem

    return command


def run(problem: BaseException, *options: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr(app, "COMMANDS", ("fail",))
    monkeypatch.setattr(app, "load_command", lambda name: raising(problem))
    world = console()
    code = app.main([*options, "fail"], world)
    assert isinstance(world.out.file, io.StringIO) and isinstance(world.err.file, io.StringIO)
    return code, world.out.file.getvalue(), world.err.file.getvalue()


def test_an_error_is_reported_with_details_and_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = IntegrityError("the file is damaged", details=["at byte 1", "at byte 2"], hint="Fetch it again.")
    code, out, err = run(problem, monkeypatch=monkeypatch)
    assert (code, out) == (7, "")
    assert err == "error: the file is damaged\n  at byte 1\n  at byte 2\nhint: Fetch it again.\n"


def test_a_bug_says_how_to_report_it_and_shows_its_traceback_only_with_v(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, _, err = run(KeyError("surprise"), monkeypatch=monkeypatch)
    assert code == 1
    assert "a bug: KeyError: 'surprise'" in err and "report" in err and "Traceback" not in err
    code, _, err = run(KeyError("surprise"), "-v", monkeypatch=monkeypatch)
    assert code == 1 and "Traceback" in err and "in command" in err


def test_a_failing_system_call_names_its_file_and_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(PermissionError(13, "Permission denied", "/root/x"), "--json", monkeypatch=monkeypatch)
    assert code == 10 and err.startswith("error: /root/x: Permission denied\n") and "hint: Choose a path" in err
    assert json.loads(out)["error"]["type"] == "DestinationError"
    code, _, err = run(OSError(5, "Input/output error", "/mnt/x"), monkeypatch=monkeypatch)
    assert code == 1 and err == "error: /mnt/x: Input/output error\n"


def test_running_out_of_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(MemoryError(), monkeypatch=monkeypatch)
    assert code == 1 and "--jobs 1" in err


def test_what_is_printed_of_an_error_is_harmless() -> None:
    stream = Stream(io.StringIO(), terminal=True, colour=True, unicode=True, width=80)
    lines = error_lines(EnvpackError("a\x1b[2Jb", details=["\x1b]0;x\x07", "  indented\x08"], hint="\x9b"), stream)
    text = "".join(lines).replace("\x1b[1;31m", "").replace("\x1b[1;36m", "").replace("\x1b[0m", "")
    assert text.isprintable()
    assert r"    indented\x08" in lines


def test_a_second_interrupt_waits_for_the_clean_up_and_a_third_does_not() -> None:
    script = """
import os, signal, sys
from envpack.cli.signals import interruptible
try:
    with interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            print("cleaned", flush=True)
            if "third" in sys.argv:
                os.kill(os.getpid(), signal.SIGINT)
            print("done", flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""
    two = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert two.stdout.split() == ["cleaned", "done", "interrupted"] and "interrupt again" in two.stderr
    three = subprocess.run([sys.executable, "-c", script, "third"], capture_output=True, text=True)
    assert three.returncode == 130 and three.stdout.split() == ["cleaned"]


@pytest.mark.parametrize("where", ["destructor", "callback of a weak reference"])
def test_an_interrupt_is_not_lost_where_python_can_not_raise_it(where: str) -> None:
    script = """
import signal, sys, time, weakref
from envpack.cli.signals import interruptible

class A:
    def __del__(self):
        if "destructor" in sys.argv:
            signal.raise_signal(signal.SIGINT)

try:
    with interruptible():
        a = A()
        r = weakref.ref(a, lambda _: "destructor" in sys.argv or signal.raise_signal(signal.SIGINT))
        del a
        time.sleep(600)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", script, where], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_a_signal_ignored_from_the_start_stays_ignored() -> None:
    script = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
from envpack.cli.signals import interruptible
with interruptible():
    os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "goes on\n"


@pytest.mark.parametrize(
    ("size", "unicode", "drawn"),
    [
        (100, True, "█" * 10),
        (55, True, "█████▌"),
        (1, True, "▏"),
        (0, True, ""),
        (55, False, "######"),
        (1, False, "#"),
    ],
)
def test_bars_are_in_proportion_and_never_empty_for_something(size: int, unicode: bool, drawn: str) -> None:
    assert bar(size, 100, 10, unicode=unicode) == drawn


def test_a_folder_that_is_a_channel_is_taken_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "channel" / "noarch").mkdir(parents=True)
    (tmp_path / "build" / "channel" / "noarch" / "repodata.json").touch()
    (tmp_path / "conda-forge").mkdir()
    url = (tmp_path / "build" / "channel").as_uri()
    assert channel_urls(["build/channel", "conda-forge", "https://x.org/c"]) == [
        url,
        "conda-forge",
        "https://x.org/c",
    ]


def environment(path: Path) -> Path:
    (path / "conda-meta").mkdir(parents=True)
    return path


def test_environments_are_found_by_name_where_conda_keeps_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    beside = environment(tmp_path / "miniforge" / "envs" / "one")
    own = environment(home / ".conda" / "envs" / "two")
    listed = environment(tmp_path / "elsewhere" / "three")
    (home / ".conda" / "environments.txt").write_text(f"{listed}\n{tmp_path}/gone\n")
    environ = {"HOME": str(home), "CONDA_EXE": str(tmp_path / "miniforge" / "bin" / "conda")}
    assert [find_environment(name, environ) for name in ("one", "two", "three")] == [beside, own, listed]
    with pytest.raises(UsageError, match="no environment named 'four'"):
        find_environment("four", environ)


def test_environments_are_found_in_the_folders_that_condarc_and_variables_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    base = environment(tmp_path / "miniforge")
    (base / ".condarc").write_text(f"envs_dirs:\n  - {tmp_path}/of-all\n")
    home.mkdir()
    (home / ".condarc").write_text("envs_dirs: [~/mine, $HOME/work]\nchannels: [conda-forge]\n")
    wanted = {
        "shared": environment(tmp_path / "of-all" / "shared"),
        "own": environment(home / "mine" / "own"),
        "other": environment(home / "work" / "other"),
        "varied": environment(tmp_path / "var" / "varied"),
        "beside": environment(base / "envs" / "beside"),
        "base": base,
    }
    environ = {
        "HOME": str(home),
        "CONDA_EXE": str(base / "bin/conda"),
        "CONDA_ENVS_DIRS": f"/nowhere:{tmp_path}/var",
    }
    assert {name: find_environment(name, environ) for name in wanted} == wanted


def test_environments_beside_the_active_one_are_found(tmp_path: Path) -> None:
    base = environment(tmp_path / "miniforge")
    first, second = environment(base / "envs" / "first"), environment(base / "envs" / "second")
    environ = {"HOME": str(tmp_path / "home"), "CONDA_PREFIX": str(first)}
    assert find_environment("first", environ) == first
    assert find_environment("second", environ) == second
    assert find_environment("base", environ) == base
    assert find_environment("second", {**environ, "CONDA_PREFIX": str(base)}) == second


def test_a_broken_condarc_is_conda_s_to_complain_of(tmp_path: Path) -> None:
    (tmp_path / ".condarc").write_text("envs_dirs: [unfinished\n")
    own = environment(tmp_path / ".conda/envs/own")
    assert find_environment("own", {"HOME": str(tmp_path)}) == own


def test_pixi_s_environments_are_named_after_their_project(tmp_path: Path) -> None:
    assert name_of(tmp_path / "rocket/.pixi/envs/default") == "rocket"
    assert name_of(tmp_path / "rocket/.pixi/envs/cuda") == "rocket-cuda"
    assert name_of(tmp_path / "miniforge/envs/demo") == "demo"


def test_a_name_that_two_environments_have_is_not_guessed(tmp_path: Path) -> None:
    first, second = environment(tmp_path / "a" / "x"), environment(tmp_path / "b" / "x")
    with pytest.raises(UsageError, match="2 environments") as caught:
        find_environment("x", {"HOME": str(tmp_path), "CONDA_ENVS_PATH": f"{first.parent}:{second.parent}"})
    assert caught.value.details == [str(first), str(second)]


def test_without_a_name_the_active_environment_is_packed() -> None:
    assert active_environment({"CONDA_PREFIX": "/envs/x"}) == Path("/envs/x")
    with pytest.raises(UsageError, match="no environment is active"):
        active_environment({})
