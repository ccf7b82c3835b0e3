"""A deployment over another one: switched at once, kept, taken back, and whole whatever it was stopped at."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.deployment import swap
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.record import Record, read_record, update_record
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.deployment.transaction import open_transaction
from envpack.runtime.errors import DeploymentTestError, DestinationError, EnvpackError
from envpack.runtime.fs.exchange import exchange
from envpack.runtime.report import Reporter
from support.reporters import RecordingReporter
from support.sample_deployments import bundle, deploy_version, state_entries, whole_version


def recover(root: Path) -> None:
    with exclusive(DeploymentState(root), Reporter()):
        pass


def record_of(root: Path) -> Record:
    record = read_record(root)
    assert record is not None
    return record


@pytest.fixture
def x(tmp_path: Path) -> Path:
    """Version 1, deployed."""
    deploy_version(tmp_path, "1")
    return tmp_path / "x"


@pytest.fixture(params=["exchange", "in steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to switch: on a filesystem that can exchange names, and on one that can't."""
    if request.param == "in steps":
        forbid_exchange(monkeypatch)
    return str(request.param)


def forbid_exchange(monkeypatch: pytest.MonkeyPatch, number: int = errno.EINVAL) -> None:
    def refuse(first: Path, second: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(swap, "exchange", refuse)


def test_a_first_deployment_leaves_nothing_beside(x: Path, tmp_path: Path) -> None:
    assert whole_version(x) == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-1.tar.gz", "x"]
    record = record_of(x)
    assert (record.generation, record.replaced, record.tested, record.history) == (1, None, True, ())


def test_an_upgrade_switches_and_keeps_the_previous_one(x: Path, tmp_path: Path, way: str) -> None:
    done = deploy_version(tmp_path, "2")
    assert (done.generation, done.replaced) == (2, 1)
    assert whole_version(x) == "2"
    assert state_entries(x) == ["1"]
    kept = tmp_path / ".x.envpack/1"
    assert (kept / "bin/tool").read_text() == f"#!/bin/sh\necho {x} 1\n"
    record = record_of(x)
    assert [(entry.generation, entry.version) for entry in record.history] == [(1, "1")]
    assert record.tested is True


def test_the_previous_ones_beyond_those_to_keep_go(x: Path, tmp_path: Path) -> None:
    for version, keep, left in (("2", 1, ["1"]), ("3", 2, ["1", "2"]), ("4", 2, ["2", "3"]), ("5", 0, [])):
        deploy_version(tmp_path, version, keep=keep)
        assert whole_version(x) == version
        assert state_entries(x) == left
    assert [entry.version for entry in record_of(x).history] == ["1", "2", "3", "4"]
    assert not (tmp_path / ".x.envpack").exists()


def test_files_of_the_user_s_own_are_kept_with_their_deployment(x: Path, tmp_path: Path) -> None:
    (x / "notes.txt").write_text("mine")
    deploy_version(tmp_path, "2")
    reporter = RecordingReporter()
    deploy_version(tmp_path, "3", keep=0)
    deploy(bundle(tmp_path, "4"), x, DeployOptions(keep=0), reporter=reporter)
    assert state_entries(x) == ["1"]
    assert (tmp_path / ".x.envpack/1/notes.txt").read_text() == "mine"
    assert "generation 1 was not removed" in reporter.warnings[0] and "notes.txt" in reporter.warnings[0]


def test_edited_files_are_local_changes_and_byte_code_is_not(x: Path, tmp_path: Path) -> None:
    (x / "lib/__pycache__").mkdir()
    (x / "lib/__pycache__/a.cpython-311.pyc").touch()
    os.utime(x / "lib/version")
    deploy_version(tmp_path, "2", keep=0)
    assert state_entries(x) == []
    (x / "lib/version").write_text("two")
    deploy_version(tmp_path, "3", keep=0)
    assert state_entries(x) == ["2"]


def test_a_failing_test_switches_back(x: Path, tmp_path: Path, way: str) -> None:
    bad = bundle(tmp_path, "2", test=("bin/tool; false",))
    with pytest.raises(DeploymentTestError, match="demo 1, generation 1, is active again") as caught:
        deploy(bad, x, reporter=Reporter())
    assert caught.value.details == [f"{x} 2"]
    assert whole_version(x) == "1"
    assert not (tmp_path / ".x.envpack").exists()


def test_a_failing_test_takes_a_first_deployment_away(tmp_path: Path) -> None:
    bad = bundle(tmp_path, "1", test=("false",))
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "x", tmp_path / "a/b/x", tmp_path / "empty"):
        with pytest.raises(DeploymentTestError, match="deployment was removed"):
            deploy(bad, place, reporter=Reporter())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-1.tar.gz", "empty"]


def test_an_interrupt_at_a_test_switches_back(x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from envpack.runtime.commands import run_tests as deploy_module

    def interrupt(root: Path, command: str) -> None:
        assert whole_version(root) == "2"
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy_module, "run_inside", interrupt)
    with pytest.raises(KeyboardInterrupt):
        deploy_version(tmp_path, "2")
    assert whole_version(x) == "1" and state_entries(x) == []


def test_the_first_error_is_reported_even_when_nothing_can_be_restored(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = bundle(tmp_path, "2", test=("false",))
    reporter = RecordingReporter()
    real = exchange
    calls = 0

    def once(first: Path, second: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(first, second)

    monkeypatch.setattr(swap, "exchange", once)
    with pytest.raises(DeploymentTestError):
        deploy(bad, x, reporter=reporter)
    assert any("could not be restored" in warning for warning in reporter.warnings)
    assert whole_version(x) == "2"
    recover(x)
    assert whole_version(x) == "2" and state_entries(x) == ["1"]


def test_an_environment_that_tar_unpacked_is_generation_0(tmp_path: Path) -> None:
    x = tmp_path / "x"
    x.mkdir()
    subprocess.run(["tar", "-xzf", bundle(tmp_path, "1"), "-C", x], check=True)
    done = deploy_version(tmp_path, "2")
    assert (done.generation, done.replaced) == (1, 0)
    assert whole_version(x) == "2" and state_entries(x) == ["0"]


def test_a_folder_that_is_no_deployment_is_left_alone(tmp_path: Path) -> None:
    x = tmp_path / "x"
    x.mkdir()
    (x / "mine").touch()
    with pytest.raises(DestinationError, match="is not empty and is not a deployment"):
        deploy_version(tmp_path, "1")
    (tmp_path / "link").symlink_to(x)
    with pytest.raises(DestinationError, match="is a symbolic link") as refused:
        deploy_version(tmp_path, "1", tmp_path / "link")
    assert refused.value.hint == (
        "Give the path that the link leads to, or deploy to another path and then switch the link."
    )
    assert [path.name for path in x.iterdir()] == ["mine"]


def test_the_mode_of_a_deployment_s_folder_stays(x: Path, tmp_path: Path) -> None:
    x.chmod(0o750)
    deploy_version(tmp_path, "2")
    assert x.stat().st_mode & 0o777 == 0o750


def test_a_copy_put_where_a_deployment_was_gets_a_generation_of_its_own(x: Path, tmp_path: Path) -> None:
    shutil.copytree(x, tmp_path / "copy", symlinks=True)
    deploy_version(tmp_path, "2")
    shutil.rmtree(x)
    (tmp_path / "copy").rename(x)
    deploy_version(tmp_path, "3", keep=9)
    assert whole_version(x) == "3" and state_entries(x) == ["1", "2"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_destination_s_name_may_be_as_long_as_the_filesystem_takes(tmp_path: Path, name: str) -> None:
    for version in ("1", "2"):
        deploy_version(tmp_path, version, tmp_path / name)
    assert whole_version(tmp_path / name) == "2"
    assert rollback(tmp_path / name, reporter=Reporter()).generation == 1
    assert whole_version(tmp_path / name) == "1"


# --- what a command was stopped at: every state that a switch goes through ---


def staged(x: Path, name: str, version: str, generation: int) -> Path:
    """A tree beside, as an upgrade makes it."""
    state = DeploymentState(x)
    with exclusive(state, Reporter()) as deployment, open_transaction(deployment, 0, state.current()) as new:
        deploy_version(x.parent, version, x.parent / "made")
        made = record_of(x.parent / "made")
        update_record(x.parent / "made", made, generation=generation, destination=str(x), replaced=generation - 1)
        (x.parent / "made/bin/tool").write_text(f"#!/bin/sh\necho {x} {version}\n")
        (x.parent / "made/.envpack/prefix").write_text(f"{x}\n")
        new.folder.rmdir()
        target = state.state_dir / name
        (x.parent / "made").rename(target)
        return keep_aside(target)


def keep_aside(target: Path) -> Path:
    parking = target.parent.parent / "parked"
    target.rename(parking)
    return parking


def lay(x: Path, parked: Path, name: str) -> Path:
    side = x.with_name(f".{x.name}.envpack")
    side.mkdir(exist_ok=True)
    return parked.rename(side / name)


def test_killed_while_writing_the_new_one(x: Path, tmp_path: Path) -> None:
    lay(x, staged(x, "new-2", "2", 2), "new-2")
    (tmp_path / ".x.envpack/lock").touch()
    recover(x)
    assert whole_version(x) == "1" and not (tmp_path / ".x.envpack").exists()


def test_killed_before_the_exchange(x: Path) -> None:
    lay(x, staged(x, "next-2", "2", 2), "next-2")
    recover(x)
    assert whole_version(x) == "1" and state_entries(x) == []


def test_killed_between_the_exchange_and_the_rename(x: Path) -> None:
    there = lay(x, staged(x, "next-2", "2", 2), "next-2")
    exchange(there, x)
    recover(x)
    assert whole_version(x) == "2" and state_entries(x) == ["1"]


def test_killed_between_the_exchange_and_the_rename_after_plain_tar(x: Path) -> None:
    (x / ".envpack/deployment.json").unlink()
    there = lay(x, staged(x, "next-1", "2", 1), "next-1")
    exchange(there, x)
    recover(x)
    assert whole_version(x) == "2" and state_entries(x) == ["0"]


@pytest.mark.parametrize("done", range(4))
def test_killed_in_the_steps_of_a_filesystem_without_exchange(x: Path, done: int) -> None:
    there = lay(x, staged(x, "next-2", "2", 2), "next-2")
    (there.parent / "switching").write_text('{"inside": "next-2"}')
    if done > 0:
        x.rename(there.parent / "aside")
    if done > 1:
        there.rename(x)
    if done > 2:
        (there.parent / "aside").rename(there)
    recover(x)
    assert whole_version(x) == ("1" if done < 2 else "2")
    assert state_entries(x) == ([] if done < 2 else ["1"])


def test_killed_while_switching_back(x: Path, tmp_path: Path) -> None:
    deploy_version(tmp_path, "2")
    side = tmp_path / ".x.envpack"
    (side / "1").rename(side / "next-2")
    recover(x)
    assert whole_version(x) == "2" and state_entries(x) == ["1"]
    (side / "1").rename(side / "next-2")
    exchange(side / "next-2", x)
    recover(x)
    assert whole_version(x) == "1" and state_entries(x) == []


def test_killed_in_a_rollback(x: Path, tmp_path: Path) -> None:
    deploy_version(tmp_path, "2")
    exchange(tmp_path / ".x.envpack/1", x)
    recover(x)
    assert whole_version(x) == "1" and state_entries(x) == ["2"]


def test_an_incomplete_removal_is_completed(x: Path, tmp_path: Path) -> None:
    (tmp_path / ".x.envpack/trash-1/folder").mkdir(parents=True)
    (tmp_path / ".x.envpack/trash-1/folder").chmod(0)
    deploy_version(tmp_path, "2", keep=0)
    assert not (tmp_path / ".x.envpack").exists()


def test_the_user_s_own_things_beside_stay(x: Path, tmp_path: Path) -> None:
    (tmp_path / ".x.envpack/mine").mkdir(parents=True)
    deploy_version(tmp_path, "2", keep=0)
    assert state_entries(x) == ["mine"]


def test_a_tree_without_a_record_is_never_deleted_after_a_switch(x: Path) -> None:
    there = lay(x, staged(x, "next-2", "2", 2), "next-2")
    exchange(there, x)
    shutil.rmtree(there / ".envpack")
    (there / "mine").touch()
    recover(x)
    assert whole_version(x) == "2" and state_entries(x) == ["0"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP])
def test_whatever_says_that_names_can_t_be_exchanged(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    forbid_exchange(monkeypatch, number)
    deploy_version(tmp_path, "2")
    assert whole_version(x) == "2" and state_entries(x) == ["1"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_step_that_fails_is_taken_back(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    forbid_exchange(monkeypatch)
    real, calls = os.rename, 0

    def rename(source: Path, target: Path) -> None:
        nonlocal calls
        if {Path(source).name, Path(target).name} & {"aside", "x"}:
            calls += 1
            if calls == failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(EnvpackError):
        deploy_version(tmp_path, "2")
    monkeypatch.undo()
    assert whole_version(x) == "1"
    recover(x)
    assert whole_version(x) == "1" and state_entries(x) == []


# --- permissions ---


def as_owner_without_privilege() -> list[str]:
    """Return the words before a command that make permission bits apply to root too."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    without = "-dac_override,-dac_read_search,-fowner"
    return [setpriv, "--inh-caps", without, "--bounding-set", without]


def test_a_deployment_made_read_only_is_upgraded_and_stays_read_only(x: Path, tmp_path: Path) -> None:
    subprocess.run(["chmod", "-R", "a-w", x], check=True)
    script = "import sys; from envpack.runtime.__main__ import main; sys.exit(main())"
    runtime = [*as_owner_without_privilege(), sys.executable, "-c", script]
    for arguments, code, version, kept in (
        (("deploy", bundle(tmp_path, "2"), x, "--no-test"), 0, "2", ["1"]),
        (("rollback", x), 0, "1", ["2"]),
        (("deploy", bundle(tmp_path, "3", test=("false",)), x), 11, "1", ["2"]),
    ):
        done = subprocess.run([*runtime, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert whole_version(x) == version and state_entries(x) == kept
        assert x.stat().st_mode & 0o777 == 0o555
    done = subprocess.run([*runtime, "remove", str(x)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not x.exists() and state_entries(x) == []


def test_a_state_directory_of_another_user_is_refused(x: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of a directory")
    (tmp_path / ".x.envpack").mkdir()
    os.chown(tmp_path / ".x.envpack", 65534, 65534)
    with pytest.raises(DestinationError, match="not a directory of this user"):
        deploy_version(tmp_path, "2")
    (tmp_path / ".x.envpack").rmdir()
    (tmp_path / ".x.envpack").symlink_to(tmp_path)
    with pytest.raises(DestinationError, match="not a directory of this user"):
        deploy_version(tmp_path, "2")
    assert whole_version(x) == "1"
