"""The first activation, which writes the prefix in, and the ways of getting at the script."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.shells import (
    BARE,
    POSIX,
    PYTHON,
    Session,
    Shell,
    add_echo,
    everything_back,
    installed,
    make_tree,
    unpackings,
)

# Where the prefix has to be written in


def test_the_first_activation_writes_the_prefix_in(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", written_in=False)
    outcome = session.run(shell, [shell.source(prefix), "DUMP", "deactivate", shell.source(prefix)])
    assert outcome.status == 0
    assert (outcome.out, outcome.err) == ("", "written in\n")
    assert unpackings(prefix) == 1
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)


def test_an_activation_runs_no_program(posix: Shell, tmp_path: Path) -> None:
    """Once the prefix is written; some shells need readlink to find the script, and mksh has no printf."""
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"})
    add_echo(prefix, "activate.d/a", "+a")
    lines = [posix.source(prefix), "deactivate"]
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    script = tmp_path / "traced"
    script.write_text("\n".join(lines) + "\n")
    trace = tmp_path / "trace"
    subprocess.run([tracer, "-f", "-e", "execve", "-o", trace, *posix.argv, script], env=BARE, check=True)
    programs = [line.split('"')[1] for line in trace.read_text().splitlines() if "execve(" in line][1:]
    if posix.argv[0] in ("bash", "zsh", "ksh"):
        assert programs == []
    assert {Path(program).name for program in programs} <= {"readlink", "printf"}


def test_a_shell_that_has_aliases_of_its_own_makes_no_process_for_each_name(tmp_path: Path) -> None:
    """An activation and its deactivation make 30 processes in dash, too."""
    tracer, shell = shutil.which("strace"), shutil.which("mksh")
    if tracer is None or shell is None:
        pytest.skip("strace or mksh is not installed")
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"})
    script = tmp_path / "traced"
    script.write_text(f". '{prefix}/bin/activate'\ndeactivate\n")
    trace = tmp_path / "trace"
    calls = "trace=clone,clone3,fork,vfork"
    subprocess.run([tracer, "-f", "-e", calls, "-o", trace, shell, script], env=BARE, check=True)
    assert len(re.findall(r"(?:clone3?|v?fork)\(", trace.read_text())) < 30


def test_a_symbolic_link_to_a_deployment_is_that_deployment(
    shell: Shell, session: Session, tmp_path: Path
) -> None:
    prefix = make_tree(tmp_path / "releases/v2")
    (tmp_path / "current").symlink_to("releases/v2")
    outcome = session.run(shell, ["DUMP", shell.source(tmp_path / "current"), "DUMP", "deactivate", "DUMP"])
    everything_back(outcome)
    assert outcome.environments[1]["CONDA_PREFIX"] == str(prefix)
    assert unpackings(prefix) == 0


@pytest.mark.parametrize("written", ["for its destination", "for itself"])
def test_a_previous_generation_is_not_activated(
    shell: Shell, session: Session, tmp_path: Path, written: str
) -> None:
    (tmp_path / ".env.envpack").mkdir()
    if written == "for itself":
        prefix = make_tree(tmp_path / ".env.envpack/1")
    else:
        prefix = make_tree(tmp_path / "env").rename(tmp_path / ".env.envpack/1")
        make_tree(tmp_path / "env")
        (prefix / ".envpack/refuse").touch()
    outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP"])
    assert "activated" in outcome.err or "previous generation" in outcome.err
    assert outcome.environments[0] == outcome.environments[1]


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_after_a_move_the_new_prefix_is_written(shell: Shell, session: Session, tmp_path: Path, how: str) -> None:
    prefix, elsewhere = make_tree(tmp_path / "env"), tmp_path / "elsewhere"
    if how == "moved":
        prefix.rename(elsewhere)
    else:
        shutil.copytree(prefix, elsewhere, symlinks=True)
    outcome = session.run(shell, [shell.source(elsewhere), "DUMP"])
    assert unpackings(elsewhere) == 1
    assert outcome.environments[0]["CONDA_PREFIX"] == str(elsewhere)
    assert how == "moved" or unpackings(prefix) == 0


@pytest.mark.parametrize("reason", ["the runtime refuses", "there is no Python"])
def test_a_failure_leaves_the_shell_as_it_is(shell: Shell, session: Session, tmp_path: Path, reason: str) -> None:
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"}, written_in=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    if reason == "there is no Python":
        (prefix / "bin/python").unlink()
    else:
        (prefix / ".envpack/refuse").touch()
    status = "echo $status" if shell.suffix else "echo $?"
    lines = ["DUMP", shell.source(prefix), status, "DUMP", "deactivate"]
    outcome = session.run(shell, lines, {**BARE, "PATH": str(empty)})
    assert outcome.environments[0] == outcome.environments[1]
    assert outcome.out == "1\n"
    said = {"the runtime refuses": "the stand-in refuses", "there is no Python": "no usable Python 3.8 or later"}
    assert said[reason] in outcome.err
    assert f"{prefix} is not activated" in outcome.err


def test_a_failure_ends_a_script_that_stops_at_errors(posix: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", written_in=False)
    (prefix / ".envpack/refuse").touch()
    outcome = session.run(posix, ["set -eu", posix.source(prefix), "echo still here"])
    assert (outcome.status, outcome.out) == (1, "")


def test_a_failure_leaves_another_environment_active(shell: Shell, session: Session, tmp_path: Path) -> None:
    first = make_tree(tmp_path / "first")
    broken = make_tree(tmp_path / "broken", written_in=False)
    (broken / ".envpack/refuse").touch()
    lines = ["DUMP", shell.source(first), "DUMP", shell.source(broken), "DUMP", "deactivate", "DUMP"]
    before, active, still_active, after = session.run(shell, lines).environments
    assert (still_active, after) == (active, before)


def test_a_python_of_the_host_will_do(session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", written_in=False)
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to("/bin/false")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(PYTHON)
    shell = installed("dash")
    outcome = session.run(shell, [shell.source(prefix)], {**BARE, "PATH": f"{tools}:/usr/bin:/bin"})
    assert (outcome.status, unpackings(prefix)) == (0, 1)


# Ways to get at the script


@pytest.mark.parametrize(
    "folder, path", [("env", "bin/activate"), ("env/bin", "./activate"), (".", "env/bin/activate")]
)
def test_found_by_a_relative_path(shell: Shell, session: Session, tmp_path: Path, folder: str, path: str) -> None:
    prefix = make_tree(tmp_path / "env")
    verb = "source" if shell.suffix else "."
    lines = [f"{verb} {path}{shell.suffix}", "DUMP"]
    outcome = session.run(shell, lines, cwd=tmp_path / folder)
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)
    assert outcome.err == ""


@pytest.mark.parametrize("name", POSIX)
@pytest.mark.parametrize(
    "form", ["( {} && DUMP )", "f() {{ {}; }}; f; DUMP", "eval '{}'; DUMP", "if {}; then DUMP; fi"]
)
def test_found_from_within_anything(session: Session, tmp_path: Path, name: str, form: str) -> None:
    shell = installed(name)
    prefix = make_tree(tmp_path / "env")
    line = form.format(f". {prefix}/bin/activate")
    outcome = session.run(shell, [line])
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize("name", ["bash", "zsh", "dash"])
def test_found_on_path(session: Session, tmp_path: Path, name: str) -> None:
    shell = installed(name)
    prefix = make_tree(tmp_path / "env")
    outcome = session.run(shell, [". activate", "DUMP"], {**BARE, "PATH": f"{prefix}/bin:/usr/bin:/bin"})
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)


def test_found_where_other_files_are_open(session: Session, tmp_path: Path) -> None:
    """Among a shell's open files the script is found, if nothing else tells where it lies."""
    prefix = make_tree(tmp_path / "env")
    shell = installed("dash")
    script = tmp_path / "script"
    script.write_text(f". {prefix}/bin/activate\n{session.dumper}\n")
    with (prefix / "bin/activate.fish").open() as open_file:
        os.dup2(open_file.fileno(), 200)
        subprocess.run([*shell.argv, script], env=BARE, pass_fds=[200], check=True)
        os.close(200)
    assert session.environments()[0]["CONDA_PREFIX"] == str(prefix)


def test_a_shell_can_be_given_the_path_of_the_script(session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    shell = installed("dash")
    lines = [f'cat {prefix}/bin/activate | {{ eval "$(cat)"; DUMP; }}']
    assert "ENVPACK_PREFIX=DEST" in session.run(shell, lines).err
    outcome = session.run(shell, lines, {**BARE, "ENVPACK_PREFIX": str(prefix)})
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)


def test_run_instead_of_sourced_it_says_so(shell: Shell, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    command = [*shell.argv, f"{prefix}/bin/activate{shell.suffix}"]
    done = subprocess.run(command, env=BARE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "must be sourced" in done.stderr


def test_a_script_out_of_its_place_says_so(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    (tmp_path / "bin").mkdir()
    shutil.copy(prefix / f"bin/activate{shell.suffix}", tmp_path / "bin")
    outcome = session.run(shell, ["DUMP", shell.source(tmp_path), "DUMP"])
    assert "there is no environment in" in outcome.err
    assert outcome.environments[0] == outcome.environments[1]


# conda-unpack


def conda_unpack(program: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], env={"PATH": path}, cwd="/", capture_output=True, text=True)


def test_conda_unpack_needs_nothing_of_the_host(tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "an env", written_in=False)
    (tmp_path / "link").symlink_to("an env/bin/conda-unpack")
    for program in (prefix / "bin/conda-unpack", prefix / "bin/conda-unpack"):
        done = conda_unpack(program, path=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    assert (prefix / ".envpack/prefix").read_text() == f"{prefix}\n"
    done = conda_unpack(tmp_path / "link", path="/usr/bin:/bin")
    assert (done.returncode, unpackings(prefix)) == (0, 3)


def test_conda_unpack_answers_as_conda_packs_does(tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", written_in=False)
    program = prefix / "bin/conda-unpack"
    assert conda_unpack(program, "--version", path="/usr/bin:/bin").stdout == "envpack 0\n"
    assert conda_unpack(program, "--help", path="/usr/bin:/bin").stdout.startswith("usage: conda-unpack")
    assert unpackings(prefix) == 0


def test_conda_unpack_says_what_is_missing(tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", written_in=False)
    (prefix / "bin/python").unlink()
    done = conda_unpack(prefix / "bin/conda-unpack", path=str(tmp_path))
    assert done.returncode == 1
    assert "no usable Python 3.8 or later found" in done.stderr


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("import sys; sys.version_info = (3, 6, 1)", "it is Python 3.6"),
        ("import sys; sys.path.clear(); sys.path_importer_cache.clear()", "its standard library is incomplete"),
    ],
)
def test_conda_unpack_says_why_a_python_can_t_be_used(tmp_path: Path, answer: str, reason: str) -> None:
    """An old one, and one with a part of the standard library, as Debian's python3-minimal."""
    prefix = make_tree(tmp_path / "env", written_in=False)
    (prefix / "bin/python").unlink()
    fake = tmp_path / "python3"
    fake.write_text(f'#!/bin/sh\nshift 3; exec {shlex.quote(sys.executable)} -I -S -c "{answer}\n$1"\n')
    fake.chmod(0o755)
    done = conda_unpack(prefix / "bin/conda-unpack", path=str(tmp_path))
    assert done.returncode == 1
    assert "python3 can't be used: " in done.stderr and reason in done.stderr
