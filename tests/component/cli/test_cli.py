"""The command line as a person and a script meet it: what it prints, real processes, pipes and terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envpack.cli.app import COMMANDS
from envpack.cli.commands.schema import load, names
from envpack.runtime.format.changes import Changes, Unrelocatable
from envpack.runtime.format.manifest import Package
from support import forked
from support.bundle_factory import file, make_bundle, text

ENVPACK = (sys.executable, "-m", "envpack")
HOSTILE = "[red]evil\x1b]0;owned\x07\u202e"


def environment(**changes: str | None) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")}
    plain.update({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"})
    return {k: v for k, v in {**plain, **changes}.items() if v is not None}


def envpack(*arguments: object, **changes: str | None) -> subprocess.CompletedProcess[str]:
    return forked.envpack(*arguments, env=environment(**changes))


def process(*arguments: object, **changes: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENVPACK, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env=environment(**changes),
    )


def answer(done: subprocess.CompletedProcess[str], command: str) -> dict[str, Any]:
    """The one object on stdout, checked against the schema that ships."""
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    Draft202012Validator(load(command)).validate(document)
    assert document["schema"] == f"envpack.{command}/1"
    assert (document["error"] or {"code": 0})["code"] == done.returncode
    return document


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with texts that try to control the terminal."""
    path = tmp_path_factory.mktemp("bundle") / "synthetic.tar.gz"
    packages = (
        Package("conda", "large", "1.0", segment="large"),
        Package("pypi", HOSTILE, "2.0", segment="small"),
    )
    make_bundle(
        path,
        {
            "large": [file("lib/large", bytes(3_000_000))],
            "small": [text("bin/hello", b"#!/bin/sh\n# @\necho hello from @\n", 0o755)],
        },
        packages=packages,
        variables={"MODEL": HOSTILE},
        requires={"glibc": "2.17"},
        commands={"hello": "hello --loud"},
        changes=Changes(
            modified=("lib/large",),
            foreign=(f"lib/{HOSTILE}",),
            unrelocatable=(Unrelocatable("lib/large", f"member {HOSTILE} of a zip archive", False),),
        ),
    )
    return path


# --- JSON ---


@pytest.mark.parametrize("name", names())
def test_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(load(name))


def test_every_command_has_a_schema() -> None:
    assert set(COMMANDS) <= set(names())


@pytest.fixture(scope="module")
def built(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The output of `envpack build --json` for a real environment."""
    folder = tmp_path_factory.mktemp("built")
    spec = folder / "small.yml"
    spec.write_text("name: small\ndependencies: [relocation-samples]\nenvpack: {version: '1.0'}\n")
    done = process("build", spec, "-c", channel_url, "-o", folder / "out", "--work-dir", folder / "work", "--json")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "work").iterdir()] == [".lock"]
    return answer(done, "build")["result"]


def test_build_reports_the_bundle_and_its_path(built: dict[str, Any]) -> None:
    path = Path(built["bundle"])
    assert re.fullmatch(rf"small-1\.0-\d{{8}}-{built['subdir']}\.tar\.gz", path.name)
    assert path.stat().st_size == built["file_size"]
    subprocess.run(["sha256sum", "--check", "--strict", built["checksum"]], cwd=path.parent, check=True)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.sha256"]


def test_every_step_from_the_lock_on_answers_in_json(
    built: dict[str, Any], channel_url: str, tmp_path: Path
) -> None:
    spec = tmp_path / "small.yml"
    spec.write_text("name: small\ndependencies: [relocation-samples]\n")
    locked = answer(process("lock", spec, "-c", channel_url, "--json"), "lock")["result"]
    assert locked["path"] == str(tmp_path / "small.lock")
    assert [it["name"] for it in locked["platforms"][built["subdir"]]["conda"]] == ["python", "relocation-samples"]

    out = tmp_path / "dist"
    key = answer(envpack("sign", "--new-key", tmp_path / "ci", "--no-password", "--json"), "sign")["result"]["key"]
    made = answer(
        envpack(
            *("release", locked["path"], "-o", out, "--work-dir", tmp_path / "w", "--json"),
            *("--key", tmp_path / "ci.key"),
        ),
        "release",
    )["result"]
    assert json.loads(Path(made["manifest"]).read_bytes())["name"] == "small"
    assert sorted(out.iterdir()) == sorted(
        Path(made[kind]) for kind in ("bundle", "checksum", "manifest", "sbom", "signature")
    )
    signed = answer(envpack("verify", made["bundle"], "--key", key, "--json"), "verify")["result"]["signed"]
    assert signed["comment"] == f"file:{Path(made['bundle']).name}\thashed"

    destination = tmp_path / "envs" / "small"
    deployed = answer(envpack("deploy", made["bundle"], destination, "--json"), "deploy")["result"]
    assert deployed["destination"] == str(destination) and deployed["files"] == made["files"]

    packed = answer(envpack("pack", "-p", destination, "-o", tmp_path / "again.tar.zst", "--json"), "pack")
    seen = answer(envpack("inspect", tmp_path / "again.tar.zst", "--json"), "inspect")["result"]
    assert seen["file_size"] == packed["result"]["file_size"] and seen["codec"] == "zstd"


def test_inspect_reports_everything_in_json(bundle: Path) -> None:
    result = answer(envpack("inspect", bundle, "--json"), "inspect")["result"]
    assert [package["name"] for package in result["packages"]] == ["large", HOSTILE]
    assert result["file_size"] == bundle.stat().st_size
    assert result["head_size"] + sum(segment["stored"] for segment in result["segments"]) == result["file_size"]
    assert result["changes"]["foreign"] == [f"lib/{HOSTILE}"]
    assert [(item["path"], item["matters"]) for item in result["changes"]["unrelocatable"]] == [
        ("lib/large", False)
    ]


FAILURES = {
    "no command": ((), "envpack", 2),
    "mistyped command": (("bild", "x.yml"), "envpack", 2),
    "missing argument": (("build",), "build", 2),
    "unknown option": (("inspect", "--frob", "x"), "inspect", 2),
    "bad value": (("deploy", "-j", "none", "a", "b"), "deploy", 2),
    "no spec": (("build", "missing.yml"), "build", 3),
    "no bundle": (("inspect", "missing.tar.gz"), "inspect", 6),
    "not a bundle": (("deploy", __file__, "nowhere"), "deploy", 6),
    "no environment": (("pack", "-p", "missing"), "pack", 5),
    "no schema": (("schema", "nothing"), "schema", 2),
}


@pytest.mark.parametrize(("arguments", "command", "code"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("before", [True, False], ids=["--json first", "--json last"])
def test_failures_are_one_json_object_too(
    arguments: tuple[str, ...], command: str, code: int, before: bool
) -> None:
    words = ("--json", *arguments) if before else (*arguments, "--json")
    done = envpack(*words)
    document = answer(done, command)
    assert done.returncode == code and not document["ok"] and document["result"] is None
    assert document["error"]["message"] in done.stderr.replace("\n  ", " ")


# --- words for people ---


def test_results_go_to_stdout_and_all_else_to_stderr(bundle: Path, tmp_path: Path) -> None:
    done = envpack("deploy", bundle, tmp_path / "env")
    assert f"source {tmp_path}/env/bin/activate" in done.stdout
    assert "hello --loud" in done.stdout
    assert "Unpacking" not in done.stdout and "Unpacking synthetic 1.0" in done.stderr
    quiet = process("deploy", "-q", bundle, tmp_path / "env2")
    assert quiet.returncode == 0 and quiet.stderr == ""


def test_a_pipe_gets_one_plain_line_a_step(bundle: Path, tmp_path: Path) -> None:
    lines = envpack("deploy", bundle, tmp_path / "env").stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["Unpacking synthetic 1.0", "Syncing to disk"]
    assert all("\x1b" not in line and "\r" not in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("bild",), "Did you mean 'build'?"),
        (("inspect", "--jsn", "x"), "--json"),
        (("deploy", "x"), "envpack deploy --help"),
    ],
)
def test_mistakes_get_a_hint(arguments: tuple[str, ...], hint: str) -> None:
    done = envpack(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and hint in done.stderr.splitlines()[-1]


def test_nothing_in_a_bundle_steers_the_terminal(bundle: Path) -> None:
    done = envpack("inspect", "-v", "--segments", bundle)
    shown = r"[red]evil\x1b]0;owned\x07\u202e"
    assert {"\x1b", "\x07", "\u202e"}.isdisjoint(done.stdout)
    assert done.stdout.count(shown) == 4  # package, variable, foreign file, member


def test_help_fits_80_columns_and_shows_examples() -> None:
    for command in COMMANDS:
        done = envpack(command, "--help", COLUMNS="80")
        assert done.returncode == 0 and "Example" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80, command


@pytest.mark.parametrize(
    ("words", "offered"), [("envpack in", ["inspect"]), ("envpack build --ind", ["--index-url"])]
)
def test_shells_complete_commands_and_options(words: str, offered: list[str]) -> None:
    asked = {"_ENVPACK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = envpack(**asked)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, offered, "")


def test_version() -> None:
    done = process("--version")
    assert re.fullmatch(r"envpack \d+\.\d+\.\d+\S*\n", done.stdout)
    assert answer(envpack("--version", "--json"), "version")["result"]["version"] in done.stdout


@pytest.mark.parametrize(
    ("changes", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "", "NO_COLOR": ""}, False),
    ],
)
def test_a_pipe_has_colours_only_when_forced(changes: dict[str, str], coloured: bool, bundle: Path) -> None:
    for done in (envpack("inspect", bundle, **changes), envpack("inspect", "missing", **changes)):
        assert ("\x1b[" in done.stdout + done.stderr) is coloured


def test_an_output_that_is_not_unicode_gets_ascii(bundle: Path) -> None:
    done = process("inspect", bundle, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and "####" in done.stdout


# --- terminals ---


@dataclass
class Screen:
    code: int
    text: str

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r", "\n")


def on_terminal(*arguments: object, columns: int = 80, **changes: str | None) -> Screen:
    """Runs envpack with stdout and stderr on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*ENVPACK, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(COLUMNS=str(columns), **changes),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # EIO: the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return Screen(process.wait(), shown.decode())


def test_a_terminal_gets_a_line_a_step_with_a_mark_and_what_to_type_next(bundle: Path, tmp_path: Path) -> None:
    screen = on_terminal("deploy", bundle, tmp_path / "env")
    assert screen.code == 0
    assert re.search(r"✓ Unpacking synthetic 1\.0 .* \d\.\d s", screen.plain)
    assert "source" in screen.plain and "\x1b[32m" in screen.text


def test_a_slow_step_shows_a_bar_that_is_gone_in_the_end(tmp_path: Path) -> None:
    slow = tmp_path / "slow.tar.gz"
    make_bundle(slow, {"a": [file("bin/activate", b"true\n")]}, test=("sleep 1",))
    screen = on_terminal("deploy", slow, tmp_path / "env")
    assert screen.code == 0, screen.plain
    assert "━" in screen.text and "\x1b[?25l" in screen.text  # drawn, the cursor hidden meanwhile
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("━")  # and shown again
    assert "✓ Testing: sleep 1" in screen.plain


def test_no_color_leaves_progress_but_takes_the_colours(bundle: Path, tmp_path: Path) -> None:
    screen = on_terminal("deploy", bundle, tmp_path / "env", NO_COLOR="1")
    assert "✓ Unpacking" in screen.plain and not re.search(r"\x1b\[[0-9;]*m", screen.text)


def test_a_dumb_terminal_gets_plain_lines(bundle: Path, tmp_path: Path) -> None:
    screen = on_terminal("deploy", bundle, tmp_path / "env", TERM="dumb")
    assert screen.code == 0 and "\x1b" not in screen.text


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int, bundle: Path, tmp_path: Path) -> None:
    for screen in (
        on_terminal("inspect", bundle, columns=columns),
        on_terminal("inspect", tmp_path / "no" / "such" / "file", columns=columns),
    ):
        lines = screen.plain.splitlines()
        assert max(len(line) for line in lines if "/" not in line) <= columns  # paths are kept whole


# --- ends ---


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ENVPACK, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_with_130_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    slow, pid_file = tmp_path / "slow.tar.gz", tmp_path / "pid"
    command = f"sleep 60 & echo $! > {pid_file}.new && mv {pid_file}.new {pid_file}; wait"
    make_bundle(slow, {"a": [file("bin/activate", b"true\n")]}, test=(command,))
    process = started("deploy", slow, tmp_path / "envs" / "env", "--json")
    wait_for(pid_file)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == 130
    Draft202012Validator(load("deploy")).validate(json.loads(out))
    assert "Traceback" not in err and "interrupted" in err
    assert not (tmp_path / "envs").exists()
    wait_for_end(int(pid_file.read_text()))  # what the test command started is gone too


def test_an_interrupt_right_after_the_commit_takes_the_deployment_back(tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.gz"
    make_bundle(bundle, {"a": [file("bin/activate", b"true\n")]})
    script = f"""
import os, signal, sys
from envpack.cli.app import run
rename = os.rename
def interrupted(old, new):
    rename(old, new)
    if new.name == "env":
        os.rename = rename
        os.kill(os.getpid(), signal.SIGTERM)
os.rename = interrupted
sys.argv = ["envpack", "deploy", {str(bundle)!r}, {str(tmp_path / "envs" / "env")!r}]
run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.returncode == 130, done.stderr
    assert not (tmp_path / "envs").exists()


def wait_for_end(pid: int) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_a_build_that_is_interrupted_leaves_nothing(channel_url: str, tmp_path: Path) -> None:
    spec = tmp_path / "env.yml"
    spec.write_text("name: env\ndependencies: [python, numpy]\n")
    process = started("build", spec, "-c", channel_url, "-o", tmp_path / "out", "--work-dir", tmp_path / "work")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Linking"):  # byte-compiling comes next, which takes seconds
            break
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "work").iterdir()] == [".lock"]


def test_a_reader_that_goes_away_is_no_error(bundle: Path) -> None:
    with subprocess.Popen(
        [*ENVPACK, "inspect", bundle, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_deployment_continues_when_no_process_reads_its_progress(bundle: Path, tmp_path: Path) -> None:
    with started("deploy", bundle, tmp_path / "env") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait() == 0
    assert (tmp_path / "env" / "bin" / "hello").exists()


def test_a_full_disk_behind_stdout_is_an_error(bundle: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*ENVPACK, "inspect", bundle], stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert done.returncode == 1 and done.stderr == "error: No space left on device\n"
