"""Files that another user plants in a shared folder do no harm: a sample of ``make test-planted``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from envpack.cli.app import COMMANDS
from envpack.runtime.command_table import COMMANDS as RUNTIME_COMMANDS
from faults import planted
from faults.planted_scenarios import SCENARIOS

ENVPACK = (sys.executable, "-m", "envpack")
"""A process of its own: the tests' has threads, and a command in a fork of it may wait for their locks forever."""

ONLY_READ = {"verify", "check", "facts", "history", "unit"}
"""Commands of the runtime in bundles that write nothing; those of the command line are tried, too."""


def test_every_command_is_tried() -> None:
    assert {each.command[0] for each in SCENARIOS if each.program == "envpack"} == set(COMMANDS)
    tried = {each.command[0] for each in SCENARIOS if each.program == "runtime"}
    assert tried == {command.name for command in RUNTIME_COMMANDS} - ONLY_READ


def test_a_folder_is_written_by_a_user_who_does_not_own_conda_pack() -> None:
    reason = planted.why_not(0) or planted.why_not(planted.VICTIM)
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        planted.make_input(Path(name) / "input")
        stage = planted.Stage(Path(name) / "user", Path(name) / "input", planted.VICTIM)
        stage.prepare(SCENARIOS[0])
        code = stage.command(
            [*ENVPACK, "pack", "-p", "{input}/env", "-o", "{home}/o.no-archive"], {}, program="shell"
        )
        assert code == 0, stage.said.read_text()
        for file in (stage.home / "o.no-archive/bin").iterdir():
            assert (file.stat().st_uid, file.stat().st_nlink) == (planted.VICTIM, 1)
            assert file.stat().st_mode & 0o044 == 0o044


def test_root_converts_in_a_folder_that_a_group_can_write_to() -> None:
    """A bundle is deployed beside the output meanwhile, which is no reason to refuse."""
    if planted.why_not(0):
        pytest.skip(planted.why_not(0))
    with tempfile.TemporaryDirectory() as name:
        planted.make_input(Path(name) / "input")
        stage = planted.Stage(Path(name) / "root", Path(name) / "input", 0)
        stage.prepare(SCENARIOS[0])
        code = stage.command([*ENVPACK, "convert", "{input}/1.tar.gz", "{shared}/o.zip"], {}, program="shell")
        assert code == 0, stage.said.read_text()
        assert (stage.shared / "o.zip").is_file()


@pytest.mark.parametrize(("sample", "seed"), [(2, 294), pytest.param(6, 0, marks=pytest.mark.long)])
def test_what_another_user_planted_is_not_followed(sample: int, seed: int) -> None:
    """A deployment and a pack with a cache, or more."""
    reason = planted.why_not(0)
    if reason:
        pytest.skip(reason)
    victims = ["root", *(["user"] if not planted.why_not(planted.VICTIM) else [])]
    chosen = ["--sample", str(sample), "--seed", str(seed), "--victims", *victims]
    command = [sys.executable, str(Path(planted.__file__)), *chosen]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = done.stdout.splitlines()[-1].split()[0]
    assert int(tried) >= sample * len(victims), done.stdout
