"""Paths of deployments: below links, in the current directory, on other filesystems, in directories of others."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.runtime.commands.move import move
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify
from envpack.runtime.deployment.listing import deployment_info
from envpack.runtime.deployment.record import read_record
from envpack.runtime.deployment.state import InPlace
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.working_directory import absolute
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from faults.planted import run_as
from support.forked import ForkedRuntime
from support.forked import envpack as forked
from support.sample_deployments import bundle, deploy_version, state_entries, whole_version

# --- what is no path ---


def runtime(folder: Path) -> Path:
    made = folder / "runtime.pyz"
    made.write_bytes(runtime_zip())
    return made


def test_an_empty_argument_is_not_the_current_directory(tmp_path: Path) -> None:
    made, here = bundle(tmp_path, "1"), tmp_path / "here"
    here.mkdir()
    for arguments in (("deploy", made, ""), ("pack", "-p", ""), ("remove", "")):
        assert f"argument {len(arguments)} is empty" in run(*arguments, cwd=here, code=2).stderr
    own = subprocess.run(
        [sys.executable, runtime(tmp_path), "deploy", made, ""], cwd=here, capture_output=True, text=True
    )
    assert own.returncode == 2 and "argument 3 is empty" in own.stderr
    assert list(here.iterdir()) == []


def test_a_directory_that_was_removed_and_a_long_name_are_named(tmp_path: Path) -> None:
    made, gone = bundle(tmp_path, "1"), tmp_path / "gone"
    gone.mkdir()
    command = [sys.executable, "-m", "envpack", "deploy", str(made)]
    for destination in (".", "x"):
        script = ["sh", "-c", 'rmdir ../gone && exec "$@"', "sh", *command, destination]
        done = subprocess.run(script, cwd=gone, capture_output=True, text=True)
        gone.mkdir()
        assert done.returncode == 10 and "the current directory no longer exists" in done.stderr
    done = run("deploy", made, tmp_path / ("x" * 256), cwd=tmp_path, code=10)
    assert "File name too long" in done.stderr and "shorter names" in done.stderr


# --- from within the destination ---


def run(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command as a shell in ``cwd`` does."""
    done = forked(*arguments, cwd=cwd, env={**os.environ, "PWD": str(cwd)})
    assert done.returncode == code, done.stderr
    return done


def test_a_deployment_from_within_names_absolute_paths_and_the_replaced_directory(tmp_path: Path) -> None:
    x = tmp_path / "x"
    x.mkdir()
    for version in ("1", "2"):
        done = run("deploy", bundle(tmp_path, version), ".", cwd=x)
        assert f"source {x}/bin/activate" in done.stdout
        assert f"run: cd {x}" in done.stderr
    assert whole_version(x) == "2"
    assert f"run: cd {x}" in run("rollback", x, cwd=x / "bin").stderr
    assert "run: cd" not in run("deploy", bundle(tmp_path, "2"), x, cwd=tmp_path).stderr


def test_a_previous_generation_is_no_destination_and_gets_no_other_prefix(tmp_path: Path) -> None:
    x = tmp_path / "x"
    deploy_version(tmp_path, "1")
    deploy_version(tmp_path, "2")
    old = tmp_path / ".x.envpack/1"
    for act in (
        lambda: rewrite_prefix(old, Reporter()),
        lambda: deploy_version(tmp_path, "2", old),
        lambda: deploy_version(tmp_path, "2", old / "lib/new"),
        lambda: rollback(old, reporter=Reporter()),
        lambda: move(x, old, reporter=Reporter()),
        lambda: move(old, tmp_path / "y", reporter=Reporter()),
        lambda: repair(old, bundle(tmp_path, "1"), reporter=Reporter()),
    ):
        with pytest.raises(DestinationError, match=f"in a previous generation of {x};"):
            act()
    assert "previous generation" in run("rollback", ".", cwd=old, code=10).stderr
    assert whole_version(x) == "2" and state_entries(x) == ["1"]
    rollback(x, reporter=Reporter())
    assert whole_version(x) == "1"


def test_the_current_directory_has_the_name_that_the_shell_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert absolute(Path("x")) == tmp_path / "link/x"
    for wrong in (str(tmp_path), "link", "", str(tmp_path / "none")):
        monkeypatch.setenv("PWD", wrong)
        assert absolute(Path("x")) == tmp_path / "real/x"
    assert absolute(Path("../x")) == tmp_path / "x"


# --- below links ---


def test_a_path_through_a_link_is_written_as_given_and_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to("real")
    x, real = tmp_path / "home/x", tmp_path / "real/x"
    assert deploy_version(tmp_path, "1", x).destination == str(x)
    assert whole_version(x) == "1"
    found = verify(real, reporter=Reporter())
    assert found.settled and not found.changed
    info = deployment_info(real)
    assert info is not None and (info.path, info.state) == (str(x), "ok")
    assert rewrite_prefix(real, Reporter()).written == 0
    deploy_version(tmp_path, "2", real)
    assert whole_version(real) == "2" and state_entries(real) == ["1"]
    assert rollback(real, reporter=Reporter()).generation == 1
    assert whole_version(x) == "1"
    record = read_record(real)
    assert record is not None and record.destination == str(x)
    deploy_version(tmp_path, "2", tmp_path / "home/y", keep=0)
    move(x, tmp_path / "home/z", reporter=Reporter())
    assert whole_version(tmp_path / "home/z") == "1"
    rollback(tmp_path / "real/z", to=2, reporter=Reporter())
    assert whole_version(tmp_path / "real/z") == "2"


def test_a_link_to_a_deployment_is_no_prefix(tmp_path: Path) -> None:
    deploy_version(tmp_path, "1")
    (tmp_path / "current").symlink_to("x")
    (tmp_path / "x/.envpack/prefix").write_text(f"{tmp_path}/current\n")
    rewrite_prefix(tmp_path / "current", Reporter())
    assert (tmp_path / "x/.envpack/prefix").read_text() == f"{tmp_path}/x\n"


# --- in directories of others ---


def as_other_user(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the runtime of a bundle as a user who owns nothing here; as this user where this is not root."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    user = OTHER if os.geteuid() == 0 else 0
    return travelling().run(*arguments, cwd=cwd, env=environment, user=user)


@cache
def travelling() -> ForkedRuntime:
    """The runtime in a folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    (folder / "runtime.pyz").write_bytes(runtime_zip())
    started = ForkedRuntime(shutil.which("python3", path="/usr/bin") or sys.executable, folder / "runtime.pyz")
    atexit.register(shutil.rmtree, folder)
    atexit.register(started.end)
    return started


OTHER = 12345


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter; that of pytest is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = bundle(folder, "1")
        made.chmod(0o644)
        yield folder


def test_a_closed_parent_is_named_with_a_hint_by_every_command(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() != 0:
        closed.chmod(0)
    for command in (
        ("deploy", "demo-1.tar.gz", closed / "x"),
        ("deploy", "demo-1.tar.gz", closed / "y/x"),
        *((name, closed / "x") for name in ("rollback", "history", "remove", "verify", "check", "unpack")),
        ("move", closed / "x", open_folder / "z"),
    ):
        done = as_other_user(*command, cwd=open_folder)
        assert done.returncode == 10, done.stderr
        assert "Permission denied" in done.stderr and "hint: Choose a path" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_closed_state_directory_hides_no_deployment_and_a_closed_one_is_named(
    open_folder: Path, tmp_path: Path
) -> None:
    x, state = open_folder / "x", open_folder / ".x.envpack"
    deploy_version(open_folder, "1", x)
    deploy_version(open_folder, "1", x)
    state.chmod(0o700)  # as during an upgrade
    for command in ("check", "verify", "history"):
        assert as_other_user(command, x, cwd=open_folder).returncode == 0

    def work() -> int:
        info = deployment_info(x)
        return 0 if info is not None and (info.current.generation, info.kept, info.state) == (2, (), "ok") else 1

    assert run_as(OTHER, work, tmp_path / "said") == 0, (tmp_path / "said").read_text()
    x.chmod(0o700)
    for command in ("check", "verify", "history"):
        done = as_other_user(command, x, cwd=open_folder)
        assert done.returncode == 10 and f"{x}/.envpack/" in done.stderr, done.stderr
        assert "Permission denied" in done.stderr and "hint: Choose a path that you can read" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("mask", "warned"), [(0o077, True), (0o027, True), (0o022, False), (0o002, False)])
def test_root_is_warned_of_a_umask_that_shuts_others_out(tmp_path: Path, mask: int, warned: bool) -> None:
    command = [sys.executable, "-m", "envpack", "deploy", bundle(tmp_path, "1"), tmp_path / "x"]
    done = subprocess.run(command, capture_output=True, text=True, umask=mask, check=True)
    assert (f"the umask is {mask:03o}, so other users can't use" in done.stderr) is warned
    done = subprocess.run(command, capture_output=True, text=True, umask=mask, check=True)
    assert "the umask is" not in done.stderr  # an upgrade keeps what the first deployment has withheld


def test_a_move_keeps_the_modes_of_records_whatever_the_umask_is(tmp_path: Path) -> None:
    envpack, old, new = [sys.executable, "-m", "envpack"], tmp_path / "x", tmp_path / "y"
    subprocess.run([*envpack, "deploy", bundle(tmp_path, "1"), old], capture_output=True, umask=0o022, check=True)
    before = {path.name: path.stat().st_mode for path in (old / ".envpack").iterdir()}
    subprocess.run([*envpack, "move", old, new], capture_output=True, umask=0o077, check=True)
    after = {path.name: path.stat().st_mode for path in (new / ".envpack").iterdir() if path.name != "lock"}
    assert after == before
    assert before["prefix"] & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_empty_directory_of_one_s_own_in_another_s_is_deployed_into(open_folder: Path) -> None:
    x = open_folder / "x"
    x.mkdir(mode=0o750)
    os.chown(x, OTHER, OTHER)
    for test in ("exit 3", "kill -9 $PPID", "true"):
        made = bundle(open_folder, "2", test=(test,))
        made.chmod(0o644)
        done = as_other_user("deploy", made, x, cwd=open_folder)
        made.unlink()
        if test == "exit 3":
            assert done.returncode == 11 and list(x.iterdir()) == []
        elif test != "true":
            assert done.returncode == -9
            subprocess.run(["rm", "-rf", x / ".envpack"], check=True)  # as if it had not come to the record
    assert done.returncode == 0, done.stderr
    assert whole_version(x) == "2" and x.stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in x.iterdir()) == [".envpack", "bin", "lib"]
    assert sorted(path.name for path in open_folder.iterdir()) == ["demo-1.tar.gz", "x"]
    assert as_other_user("verify", x, cwd=open_folder).returncode == 0
    for command in (("deploy", "demo-1.tar.gz", x), ("rollback", x), ("move", x, open_folder / "y")):
        done = as_other_user(*command, cwd=open_folder)
        assert done.returncode == 10
        assert f"{x} can't be replaced or moved, because you can't write to {open_folder}" in done.stderr
        assert f"deploy to it again: envpack remove {x}" in done.stderr
    assert whole_version(x) == "2"
    (x / "mine").touch()
    os.chown(x / "mine", OTHER, OTHER)
    done = as_other_user("remove", x, cwd=open_folder)
    assert done.returncode == 10 and f"{x}/mine\n" in done.stderr and InPlace.NAME not in done.stderr
    assert whole_version(x) == "2" and not (x / InPlace.NAME).exists()
    (x / "mine").unlink()
    done = as_other_user("remove", x, cwd=open_folder)
    assert done.returncode == 0 and f"the empty directory {x} stays" in done.stderr, done.stderr
    assert list(x.iterdir()) == []
    assert as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder).returncode == 0
    assert whole_version(x) == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_mounted_directory_of_one_s_own_is_deployed_into(open_folder: Path) -> None:
    x = open_folder / "x"
    x.mkdir()
    os.chown(x, OTHER, OTHER)
    if subprocess.run(["mount", "--bind", x, x], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        done = as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder)
        assert done.returncode == 0, done.stderr
        assert whole_version(x) == "1" and as_other_user("verify", x, cwd=open_folder).returncode == 0
        done = as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder)
        assert done.returncode == 10 and "is a mount point" in done.stderr
        assert as_other_user("remove", x, cwd=open_folder).returncode == 0 and list(x.iterdir()) == []
    finally:
        subprocess.run(["umount", x], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_removal_in_place_that_was_stopped_is_finished(open_folder: Path) -> None:
    x = open_folder / "x"
    x.mkdir(mode=0o750)
    os.chown(x, OTHER, OTHER)
    for finish in (("remove", x), ("deploy", "demo-1.tar.gz", x)):
        assert as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder).returncode == 0
        state = x / InPlace.NAME
        state.mkdir()
        (state / "placing").write_text(json.dumps(sorted(path.name for path in x.iterdir() if path != state)))
        (state / "trash-0").mkdir()
        (x / ".envpack").rename(state / "trash-0/.envpack")  # as if it was stopped here
        for path in (state, state / "placing", state / "trash-0"):
            os.chown(path, OTHER, OTHER)
        done = as_other_user(*finish, cwd=open_folder)
        assert done.returncode == 0, done.stderr
        assert not state.exists() and (x / ".envpack").exists() is (finish[0] == "deploy")
        if finish[0] == "remove":
            assert list(x.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_deployment_in_place_is_repaired(open_folder: Path, tmp_path: Path) -> None:
    x = open_folder / "x"
    x.mkdir()
    os.chown(x, OTHER, OTHER)
    assert as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder).returncode == 0
    (x / "lib/version").unlink()

    def work() -> int:
        done = repair(x, open_folder / "demo-1.tar.gz", reporter=Reporter())
        return 0 if (done.mended, done.extra) == (("lib/version",), ()) else 1

    assert run_as(OTHER, work, tmp_path / "said") == 0, (tmp_path / "said").read_text()
    assert whole_version(x) == "1" and not (x / InPlace.NAME).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_in_a_directory_of_one_s_own_stay(open_folder: Path) -> None:
    x = open_folder / "x"
    x.mkdir()
    (x / "mine").touch()
    for path in (x, x / "mine"):
        os.chown(path, OTHER, OTHER)
    done = as_other_user("deploy", "demo-1.tar.gz", x, cwd=open_folder)
    assert done.returncode == 10 and "not empty" in done.stderr
    assert [path.name for path in x.iterdir()] == ["mine"]


OWNER = 12346


def belongs_to(folder: Path, user: int) -> None:
    """Give a folder and all in it to a user, in the group of the other user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, OTHER, follow_symlinks=False)


@pytest.fixture
def of_a_colleague(open_folder: Path) -> Path:
    """A deployment of OWNER's in a shared folder of a group: only its top folder is writable for the group."""
    x = open_folder / "shared/x"
    deploy_version(open_folder, "1", x)
    belongs_to(x.parent, OWNER)
    x.parent.chmod(0o2775)
    for folder, mode in ((x, 0o775), (x / "bin", 0o755), (x / "lib", 0o755), (x / ".envpack", 0o755)):
        folder.chmod(mode)
    bundle(open_folder, "2").chmod(0o644)
    return x


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("parent", [0, OWNER, OTHER])
def test_a_deployment_of_another_user_is_refused_before_it_is_renamed(
    open_folder: Path, of_a_colleague: Path, parent: int
) -> None:
    x = of_a_colleague
    os.chown(x.parent, parent, OTHER)
    for command in (("remove", x), ("deploy", "demo-2.tar.gz", x), ("move", x, x.with_name("y"))):
        done = as_other_user(*command, cwd=open_folder)
        assert done.returncode == 10, done.stderr
        assert f"{x} is a deployment of the user {OWNER}; it was not changed" in done.stderr
        assert "as the user that deployed there" in done.stderr
        assert whole_version(x) == "1" and [path.name for path in x.parent.iterdir()] == ["x"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("owner", [OTHER, OWNER])
def test_a_deployment_that_this_user_can_delete_is_upgraded_and_removed(
    open_folder: Path, of_a_colleague: Path, owner: int
) -> None:
    """One's own, or one on a filesystem that shows all files as those of one user."""
    x = of_a_colleague
    belongs_to(x, owner)
    for folder in (x / "bin", x / "lib", x / ".envpack"):
        folder.chmod(0o775)
    for command in (("deploy", "demo-2.tar.gz", x), ("remove", x)):
        done = as_other_user(*command, cwd=open_folder)
        assert done.returncode == 0 and "can't be removed" not in done.stderr, done.stderr
    assert list(x.parent.iterdir()) == []
