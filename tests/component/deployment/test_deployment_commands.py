"""Deployments are rolled back and forth, listed, moved and removed, and no file of the user is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.commands import move as move_module
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.rollback import RolledBack, rollback
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.history import history
from envpack.runtime.deployment.listing import deployment_info, measure
from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import read_record
from envpack.runtime.deployment.registry import registered, scan
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError, RelocationError
from envpack.runtime.fs.atomic import ReplaceBatch
from envpack.runtime.fs.lock import locked
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.bundle_factory import file, make_bundle
from support.namespaces import namespace
from support.reporters import RecordingReporter
from support.sample_deployments import bundle, deploy_version, state_entries, whole_version


@pytest.fixture
def x(tmp_path: Path) -> Path:
    """Version 2, deployed over version 1, which is kept."""
    deploy_version(tmp_path, "1")
    deploy_version(tmp_path, "2")
    return tmp_path / "x"


def back(root: Path, to: int | None = None) -> RolledBack:
    return rollback(root, to=to, reporter=Reporter())


def states(root: Path) -> list[tuple[int, str, str]]:
    return [(item.generation, item.version, item.state) for item in history(root).generations]


# --- rollback and history ---


def test_back_and_forth(x: Path) -> None:
    done = back(x)
    assert (done.generation, done.version, done.replaced) == (1, "1", 2)
    assert whole_version(x) == "1" and state_entries(x) == ["2"]
    assert states(x) == [(2, "2", "kept"), (1, "1", "current")]
    assert back(x, to=2).replaced == 1
    assert whole_version(x) == "2" and state_entries(x) == ["1"]
    assert back(x, to=2).replaced == 2
    assert whole_version(x) == "2" and state_entries(x) == ["1"]


def test_a_rollback_returns_to_the_generation_that_the_upgrade_replaced(x: Path, tmp_path: Path) -> None:
    back(x)
    done = deploy_version(tmp_path, "3", keep=2)
    assert (done.generation, done.replaced, done.kept) == (3, 1, (2, 1))
    assert back(x).generation == 1
    back(x, to=3)
    deploy_version(tmp_path, "4", keep=1)
    assert states(x) == [(4, "4", "current"), (3, "3", "kept"), (2, "2", "gone"), (1, "1", "gone")]


def test_a_rollback_that_fails_is_undone(x: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = LockedDeployment.sync, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fail(deployment: LockedDeployment) -> None:
        if failures:
            raise failures.pop()
        real(deployment)

    monkeypatch.setattr(LockedDeployment, "sync", fail)
    with pytest.raises(DestinationError, match="Input/output error"):
        back(x)
    assert whole_version(x) == "2" and state_entries(x) == ["1"]


def test_there_has_to_be_something_to_go_back_to(x: Path, tmp_path: Path) -> None:
    back(x)
    with pytest.raises(DestinationError, match="there is no previous generation") as caught:
        back(x)
    assert caught.value.hint == "Use --to with one of: 2 (2)."
    with pytest.raises(DestinationError, match="there is no generation 7"):
        back(x, to=7)
    with pytest.raises(DestinationError, match="nothing is deployed"):
        back(tmp_path / "nowhere/y")
    assert not (tmp_path / "nowhere").exists()


def test_a_deployment_that_was_removed_by_hand_can_be_restored(x: Path) -> None:
    shutil.rmtree(x)
    assert back(x).replaced is None
    assert whole_version(x) == "1" and state_entries(x) == []


def test_the_history_is_there_for_who_may_only_read(x: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".x.envpack/lock", wait=False):
        assert states(x) == [(2, "2", "current"), (1, "1", "kept")]
    with pytest.raises(DestinationError, match="nothing is deployed"):
        history(tmp_path / "y")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").touch()
    with pytest.raises(DestinationError, match="not a deployment"):
        history(tmp_path / "folder")


# --- remove ---


def test_removing_takes_everything_away(x: Path, tmp_path: Path) -> None:
    done = remove(x, reporter=Reporter())
    assert done.generations == (2, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-1.tar.gz", "demo-2.tar.gz"]
    assert x not in registered()
    with pytest.raises(DestinationError, match="nothing is deployed"):
        remove(x, reporter=Reporter())


@pytest.mark.parametrize("where", ["x", ".x.envpack/1"])
@pytest.mark.parametrize("what", ["added", "edited", "linked"])
def test_what_is_the_user_s_own_is_not_removed_unless_forced(
    x: Path, tmp_path: Path, where: str, what: str
) -> None:
    if what == "added":
        (tmp_path / where / "lib/mine").touch()
    elif what == "edited":
        (tmp_path / where / "bin/tool").write_text("mine")
    else:
        (tmp_path / where / "lib/mine").symlink_to("/nowhere")
    with pytest.raises(DestinationError, match="nothing was removed") as caught:
        remove(x, reporter=Reporter())
    assert caught.value.details == [str(tmp_path / where / ("bin/tool" if what == "edited" else "lib/mine"))]
    assert (x / "bin/activate").exists() and state_entries(x) == ["1"]
    remove(x, force=True, reporter=Reporter())
    assert not x.exists() and state_entries(x) == []


def test_byte_code_that_python_writes_is_no_local_change(x: Path) -> None:
    (x / "lib/module.py").touch()
    (x / "lib/__pycache__").mkdir()
    (x / "lib/__pycache__/module.cpython-311.pyc").touch()
    (x / "lib/module.pyc").touch()
    (x / "lib/module.py").unlink()
    with pytest.raises(DestinationError) as caught:
        remove(x, reporter=Reporter())
    assert caught.value.details == [str(x / "lib/module.pyc")]


def test_an_interrupted_removal_is_completed(x: Path, tmp_path: Path) -> None:
    x.rename(tmp_path / ".x.envpack/trash-1")
    assert remove(x, reporter=Reporter()).generations == (1,)
    (tmp_path / ".x.envpack").mkdir()
    assert remove(x, reporter=Reporter()).generations == ()
    assert not (tmp_path / ".x.envpack").exists()


def test_folders_that_can_t_be_written_are_removed_too(x: Path) -> None:
    (x / "lib").chmod(0o500)
    x.chmod(0o500)
    remove(x, reporter=Reporter())
    assert not x.exists()


# --- move ---


def moved(source: Path, target: Path) -> Path:
    move(source, target, reporter=Reporter())
    return target


def test_a_deployment_moves_any_number_of_times_with_its_previous_generations(x: Path, tmp_path: Path) -> None:
    (x / "mine").write_text("mine")
    os.link(x / "bin/activate", x / "bin/linked")
    place = x
    for name in ("y", "a much longer name than before", "z/below/new folders", "x"):
        place = moved(place, tmp_path / name)
        assert (place / "mine").read_text() == "mine"
        assert (place / "bin/linked").samefile(place / "bin/activate")
        assert (place / "bin/tool").read_text() == f"#!/bin/sh\necho {place} 2\n"
        assert state_entries(place) == ["1"]
        assert len(list(tmp_path.rglob(".*.envpack"))) == 1
    assert registered().count(x) == 1
    back(x)
    assert whole_version(x) == "1"
    moved(x, tmp_path / "y")
    back(tmp_path / "y", to=2)
    assert (tmp_path / "y/bin/tool").read_text() == f"#!/bin/sh\necho {tmp_path / 'y'} 2\n"
    assert (tmp_path / "y/mine").exists()


def test_a_previous_generation_that_does_not_fit_the_new_path_is_reported(tmp_path: Path) -> None:
    room = os.fsencode(tmp_path / "x.........")
    binary = file("lib/binary", room + b"/lib\0", relocation=Relocation(room, strings=((0, len(room) + 4),)))
    manifest = make_bundle(tmp_path / "demo-0.tar.gz", {"environment": [binary]}, name="demo", version="0")
    assert manifest.longest_prefix == len(room)
    deploy(tmp_path / "demo-0.tar.gz", tmp_path / "x", reporter=Reporter())
    for version in ("1", "2"):
        deploy_version(tmp_path, version, keep=2)

    class Watching(RecordingReporter):
        def warn(self, message: str) -> None:
            assert at_most.is_dir() and not y.exists() and state_entries(at_most) == ["1", "2"]
            super().warn(message)

    reporter = Watching()
    at_most, y = tmp_path / "y.........", tmp_path / "y.........."
    assert move(tmp_path / "x", at_most, reporter=reporter).unfit == () and not reporter.warnings
    done = move(at_most, y, reporter=reporter)
    assert done.unfit == (1,) and whole_version(y) == "2" and state_entries(y) == ["1", "2"]
    (warned,) = reporter.warnings
    assert "generation 1 (demo 0)" in warned and str(y) in warned
    assert f"has {len(room) + 1} bytes" in warned and f"at most {len(room)} fit;" in warned

    with pytest.raises(RelocationError, match=r"generation 1 \(demo 0\) can't be activated") as refused:
        back(y, to=1)
    assert f"at most {len(room)} bytes" in refused.value.hint and f"envpack move {y} TO" in refused.value.hint
    assert refused.value.details == [f"lib/binary: at most {len(room)} bytes"]
    assert whole_version(y) == "2" and state_entries(y) == ["1", "2"]
    assert back(y, to=2).version == "1" and whole_version(y) == "1"  # the other one goes on being of use
    moved(y, tmp_path / "x")
    assert back(tmp_path / "x", to=1).version == "0"
    assert (tmp_path / "x/lib/binary").read_bytes().startswith(os.fsencode(tmp_path / "x/lib") + b"\0")


def test_a_move_over_something_else_is_refused(x: Path, tmp_path: Path) -> None:
    deploy_version(tmp_path, "1", tmp_path / "y")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").touch()
    for target, why in (
        (tmp_path / "y", "already a deployment"),
        (tmp_path / "folder", "is not empty"),
        (x, "are the same"),
        (x / "lib/below", "is inside"),
        (tmp_path / "a$b", "characters"),
    ):
        with pytest.raises((DestinationError, RelocationError), match=why):
            moved(x, target)
    with pytest.raises(DestinationError, match="nothing is deployed"):
        moved(tmp_path / "nowhere", tmp_path / "z")
    assert whole_version(x) == "2" and state_entries(x) == ["1"] and whole_version(tmp_path / "y") == "1"
    assert not (tmp_path / "z").exists() and not (tmp_path / ".z.envpack").exists()


def test_a_move_into_an_empty_folder(x: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert whole_version(moved(x, tmp_path / "empty")) == "2"


def test_after_mv_the_next_command_finds_the_previous_generations(x: Path, tmp_path: Path) -> None:
    y = x.rename(tmp_path / "y")
    assert back(y).generation == 1
    assert whole_version(y) == "1" and state_entries(y) == ["2"]
    assert not (tmp_path / ".x.envpack").exists()


def test_a_copy_leaves_the_previous_generations_with_the_original(x: Path, tmp_path: Path) -> None:
    shutil.copytree(x, tmp_path / "y", symlinks=True)
    with pytest.raises(DestinationError, match="no previous generation"):
        back(tmp_path / "y")
    assert state_entries(x) == ["1"]


@pytest.mark.parametrize("stopped", ["renamed", "settled", "some kept", "all but the record"])
def test_an_interrupted_move_is_completed(x: Path, tmp_path: Path, stopped: str) -> None:
    y = x.rename(tmp_path / "y")
    if stopped != "renamed":
        rewrite_prefix(y, Reporter())
    if stopped in ("some kept", "all but the record"):
        (tmp_path / ".y.envpack").mkdir()
        (tmp_path / ".x.envpack/1").rename(tmp_path / ".y.envpack/1")
    if stopped == "all but the record":
        shutil.rmtree(tmp_path / ".x.envpack")
    for _ in range(2):  # and once it is done, once more changes nothing
        assert whole_version(moved(x, y)) == "2" and state_entries(y) == ["1"]
    assert not (tmp_path / ".x.envpack").exists()


def test_a_move_that_fails_goes_back(x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rewrite_prefix

    def fail(root: Path, reporter: Reporter, **settings: object) -> object:
        if root == tmp_path / "y":
            (root / ".envpack/prefix").unlink()
            raise DestinationError("the disk is full")
        return real(root, reporter, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(move_module, "rewrite_prefix", fail)
    with pytest.raises(DestinationError, match="the disk is full"):
        moved(x, tmp_path / "y")
    assert whole_version(x) == "2" and state_entries(x) == ["1"]
    assert not (tmp_path / "y").exists() and not (tmp_path / ".y.envpack").exists()


def test_a_move_that_finds_the_disk_full_has_rewritten_nothing(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_ino for path in sorted(x.rglob("*"))}

    def fail(new: ReplaceBatch, path: bytes, data: bytes, mode: int, *rest: Any, **named: Any) -> bytes:
        if path.endswith(b"/prefix"):  # the last of all
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))
        return real(new, path, data, mode, *rest, **named)

    real = ReplaceBatch.file
    monkeypatch.setattr(ReplaceBatch, "file", fail)
    with pytest.raises(DestinationError, match="No space left"):
        moved(x, tmp_path / "y")
    assert whole_version(x) == "2" and state_entries(x) == ["1"] and not (tmp_path / "y").exists()
    assert {path: path.stat().st_ino for path in sorted(x.rglob("*")) if path.name != "lock"} == {
        path: number for path, number in before.items() if path.name != "lock"
    }


def test_an_interrupted_prefix_rewrite_is_repeated_when_the_tree_moves_back(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = x.rename(tmp_path / "y")
    put, calls = ReplaceBatch.put, []

    def stop(new: ReplaceBatch) -> None:
        calls.append(new)
        if len(calls) > 1:  # the second is the prefix itself
            raise KeyboardInterrupt
        put(new)

    with monkeypatch.context() as patch:
        patch.setattr(ReplaceBatch, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            rewrite_prefix(y, Reporter())
    assert f"echo {y} 2" in (y / "bin/tool").read_text()
    y.rename(x)
    rewrite_prefix(x, Reporter())
    assert whole_version(x) == "2"


def other_filesystem() -> Path:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("there is no second filesystem to write to")
    return shared


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    shared = other_filesystem()
    if tmp_path.stat().st_dev == shared.stat().st_dev:
        pytest.skip("there is no second filesystem to write to")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder) / "new"


def test_a_move_to_another_filesystem_and_back(x: Path, elsewhere: Path) -> None:
    (x / "mine").symlink_to("bin/tool")
    os.link(x / "bin/activate", x / "bin/linked")
    x.chmod(0o750)
    done = move(x, elsewhere / "y", reporter=Reporter())
    assert done.copied
    y = elsewhere / "y"
    assert (y / "mine").readlink() == Path("bin/tool")
    assert (y / "bin/linked").samefile(y / "bin/activate")
    assert y.stat().st_mode & 0o777 == 0o750
    assert not x.exists() and state_entries(x) == [] and state_entries(y) == ["1"]
    back(y)
    assert whole_version(y) == "1"
    moved(y, x)
    assert whole_version(x) == "1" and state_entries(x) == ["2"]
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_are_kept_on_another_filesystem_and_when_a_prefix_is_written(x: Path, elsewhere: Path) -> None:
    (x / "mine").mkdir()
    (x / "mine/tool").write_text("x")
    for path in (x / "mine", x / "mine/tool", x / "bin/tool", x / "lib/version"):
        os.chown(path, 1234, 1235)
    (x / "mine/tool").chmod(0o6755)
    (x / "mine").chmod(0o2750)
    os.mkfifo(x / "mine/pipe", 0o600)
    reporter = RecordingReporter()
    move(x, elsewhere / "y", reporter=reporter)
    y = elsewhere / "y"
    for path, mode in (("mine", 0o2750), ("mine/tool", 0o6755), ("bin/tool", 0o755), ("lib/version", 0o644)):
        facts = (y / path).stat()
        assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (1234, 1235, mode), path
    assert stat.S_ISFIFO((y / "mine/pipe").stat().st_mode)
    assert (y / "bin/activate").stat().st_uid == 0 and whole_version(y) == "2"
    assert not any("can't be kept" in warning for warning in reporter.warnings)


def test_without_its_owner_a_copy_has_no_setuid(x: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner can't be set on NFS with root_squash, or when another user of the group moves the deployment."""
    (x / "mine").write_text("x")
    if os.geteuid() == 0:
        os.chown(x / "mine", 1234, 1235)
    (x / "mine").chmod(0o6755)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    reporter = RecordingReporter()
    move(x, elsewhere / "y", reporter=reporter)
    kept = os.geteuid() != 0
    assert (elsewhere / "y/mine").stat().st_mode & 0o7777 == (0o6755 if kept else 0o755)
    assert kept or any("can't be kept" in warning and "mine" in warning for warning in reporter.warnings)


MOUNTED = """
set -e
x=$1 y=$2 python=$3
for i in 1 2 3 4; do mkdir -p "$x/data$i"; mount -t tmpfs none "$x/data$i"; done
for i in 1 2 3 4; do echo $i >"$x/data$i/a"; ln "$x/data$i/a" "$x/data$i/b"; done
for command in "move $x $y" "remove $x --force"; do
  if $python -m envpack $command 2>"$x.log"; then echo "done: $command"; exit 1; fi
  grep "a filesystem is mounted at $x/data" "$x.log"
done
for i in 1 2 3 4; do test "$(cat "$x/data$i/b")" = $i; umount "$x/data$i"; done
$python -m envpack move $x $y
"""


def test_what_is_mounted_inside_is_neither_copied_nor_removed(x: Path, elsewhere: Path) -> None:
    script = [*namespace(), "bash", "-c", MOUNTED, "-", str(x), str(elsewhere / "y"), sys.executable]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "y/lib/version").read_text() == "2"


def test_an_interrupted_copy_to_another_filesystem_is_completed(x: Path, tmp_path: Path) -> None:
    y = tmp_path / "y"
    (tmp_path / ".y.envpack").mkdir()
    moving = {"generation": 2, "deployed": DeploymentState(x).current().deployed}  # type: ignore[union-attr]
    (tmp_path / ".y.envpack/moving").write_text(json.dumps({"from": str(x), **moving}))
    shutil.copytree(x, y, symlinks=True)
    rewrite_prefix(y, Reporter())
    moved(x, y)
    assert whole_version(y) == "2" and state_entries(y) == ["1"] and not x.exists()
    (tmp_path / ".x.envpack").mkdir()
    (tmp_path / ".x.envpack/moving").write_text(json.dumps({"from": str(y), **moving}))
    moved(y, x)
    assert whole_version(x) == "2" and state_entries(x) == ["1"] and not (tmp_path / ".y.envpack").exists()


def test_a_move_to_a_destination_that_is_locked_is_refused(x: Path, tmp_path: Path) -> None:
    for busy in (x, tmp_path / "y"):
        refused = pytest.raises(DestinationError, match="another envpack process has locked")
        with exclusive(DeploymentState(busy), Reporter()), refused:
            moved(x, tmp_path / "y")
    assert whole_version(x) == "2"


# --- the list ---


def test_deployments_are_listed_as_they_are(x: Path, tmp_path: Path) -> None:
    assert x in registered()
    listed = deployment_info(x)
    assert listed is not None
    assert (listed.state, listed.kept, listed.shared, listed.host) == ("ok", (1,), 0, "passed")
    assert listed.size == sum(path.stat().st_size for path in x.rglob("*") if path.is_file())
    os.link(x / "bin/tool", tmp_path / "elsewhere")
    os.link(x / "lib/version", x / "lib/again")
    listed = deployment_info(x)
    assert listed is not None and listed.shared == (x / "bin/tool").stat().st_size
    deploy(bundle(tmp_path, "3", test=("true",)), x, DeployOptions(run_tests=False), reporter=Reporter())
    y = x.rename(tmp_path / "y")
    listed = deployment_info(y)
    assert listed is not None and listed.state == "not settled"
    rewrite_prefix(y, Reporter())
    listed = deployment_info(y)
    assert listed is not None and listed.state == "untested"
    assert x not in registered() and y not in registered()
    assert y in list(scan(tmp_path))


def test_a_scan_finds_what_tar_unpacked_and_no_previous_generation(x: Path, tmp_path: Path) -> None:
    place = tmp_path / "deep/down/tarred"
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", bundle(tmp_path, "1"), "-C", place], check=True)
    assert list(scan(tmp_path)) == [place, x]
    assert list(scan(x)) == [x]


def test_sizes_count_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * 100)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    assert measure(tmp_path) == (100, 0)


def test_a_list_that_can_t_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ENVPACK_STATE", str(tmp_path / "file/deployments"))
    reporter = RecordingReporter()
    deploy(bundle(tmp_path, "1"), tmp_path / "x", reporter=reporter)
    assert whole_version(tmp_path / "x") == "1"
    assert "will not show" in reporter.warnings[0]


def test_a_record_that_is_damaged_hides_nothing(x: Path) -> None:
    for damage in ("", "[]", '{"generation": "x", "history": 3}', "\xff"):
        (x / ".envpack/deployment.json").write_text(damage, "latin-1")
        record = read_record(x)
        assert record is not None and (record.generation, record.version) == (0, "2")
    back(x, to=1)
    assert whole_version(x) == "1" and state_entries(x) == ["0"]
