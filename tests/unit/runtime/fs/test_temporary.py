"""Temporary files and folders: created anew under random names, and nothing else is written to or removed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.tree_rules import forbidden_reason
from envpack.runtime.fs import temporary
from envpack.runtime.fs.temporary import (
    is_temporary,
    new_file,
    new_folder,
    replace_file,
    temporary_path,
    unnamed_file,
    work_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a running process has on what it created."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@pytest.fixture
def known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every random name be the same, as if an attacker had guessed it."""
    monkeypatch.setattr(temporary.os, "urandom", lambda size: bytes(size))


def test_names_are_random_and_no_bundle_can_have_them(tmp_path: Path) -> None:
    one, two = (temporary_path(tmp_path / ("n" * 255)) for _ in range(2))
    assert one != two and one.parent == tmp_path
    assert is_temporary(one.name) and forbidden_reason(one.name)
    assert not any(map(is_temporary, ("demo.tar.gz", ".demo.envpack", ".demo.envpack-new")))


@pytest.mark.usefixtures("known_names")
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "file"])
def test_what_is_there_already_is_neither_used_nor_removed(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    place = temporary_path(tmp_path / "x")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
        (place / "mine").touch()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(outside if kind == "link" else tmp_path / "nothing")
    before = os.lstat(place)
    with ExitStack() as stack:
        if kind in ("folder", "file"):
            stack.enter_context(locked(place))
        with pytest.raises(FileExistsError):
            replace_file(tmp_path / "x", b"data")
        with pytest.raises(FileExistsError), new_folder(tmp_path / "x"):
            raise AssertionError
        with pytest.raises(DestinationError, match="File exists"), work_folder(tmp_path / "x"):
            raise AssertionError
    assert os.lstat(place) == before and outside.read_text() == "untouched"
    assert names(tmp_path) == sorted([place.name, "outside"])


def test_a_file_is_renamed_or_removed(tmp_path: Path) -> None:
    with new_file(tmp_path / "x") as new:
        os.write(new.fd, b"data")
        new.put(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"data"
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "x"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["x"]


def test_a_file_that_another_process_created_instead_is_neither_published_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(OSError, match="another process"), new_file(tmp_path / "x") as new:
        new.path.unlink()
        new.path.write_text("theirs")
        new.put(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old" and new.path.read_text() == "theirs"


def test_a_folder_is_removed_with_everything_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    with new_folder(tmp_path / "x") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "closed/inner").mkdir(parents=True)
        (folder / "closed/inner/file").touch()
        (folder / "closed").chmod(0)
        (folder / "link").symlink_to(outside)
    assert names(tmp_path) == ["outside"] and names(outside) == ["file"]


def test_a_folder_that_was_swapped_is_emptied_where_it_is_and_the_other_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    with new_folder(tmp_path / "x") as folder:
        (folder / "own").touch()
        folder.rename(tmp_path / "moved")
        folder.symlink_to(precious)
    assert names(precious) == ["file"] and folder.is_symlink()
    assert names(tmp_path / "moved") == []


def test_a_file_without_a_name_has_none(tmp_path: Path) -> None:
    with unnamed_file(tmp_path) as file:
        file.write(b"data")
        assert names(tmp_path) == []


def test_the_mode_of_a_file_is_subject_to_the_umask(tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", "umask 027; : > plain"], cwd=tmp_path, check=True)
    old = os.umask(0o027)
    try:
        replace_file(tmp_path / "x", b"", durable=False)
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


KILLED = """
import os, signal, sys
from pathlib import Path
from envpack.runtime.fs.temporary import new_file, new_folder
with new_file(Path(sys.argv[1])), new_folder(Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave(output: Path) -> None:
    """Let a process be killed while it writes ``output``."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(output)], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    leave(tmp_path / "x")
    leave(tmp_path / "xy")
    (tmp_path / ".x.envpack-mine").touch()
    left = names(tmp_path)
    assert len(left) == 5
    replace_file(tmp_path / "x", b"data")
    assert names(tmp_path) == sorted(
        ["x", *(name for name in left if not name.startswith(".x.envpack-") or "mine" in name)]
    )
    with new_folder(tmp_path / "xy"):
        assert len(names(tmp_path)) == 3
    assert names(tmp_path) == [".x.envpack-mine", "x"]


def test_what_a_running_process_writes_is_not_removed(tmp_path: Path) -> None:
    with new_file(tmp_path / "x") as one, new_file(tmp_path / "x") as two, new_folder(tmp_path / "x"):
        replace_file(tmp_path / "x", b"data")
        assert len(names(tmp_path)) == 4
        one.put(tmp_path / "x")
        two.put(tmp_path / "x")


def test_no_folder_is_removed_where_another_user_may_have_renamed_it(tmp_path: Path) -> None:
    mine = temporary_path(tmp_path / "x")
    mine.mkdir()
    (mine / "file").touch()
    tmp_path.chmod(0o775)
    replace_file(tmp_path / "x", b"data")
    assert (mine / "file").exists()
    tmp_path.chmod(0o755)
    replace_file(tmp_path / "x", b"data")
    assert names(tmp_path) == ["x"]


def test_leftovers_stay_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    leave(tmp_path / "x")
    monkeypatch.setattr(temporary.fcntl, "flock", no_locks)
    replace_file(tmp_path / "x", b"data")
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("when", ["while it is locked", "before it is locked", "as soon as it is there"])
def test_what_another_writer_takes_for_a_leftover_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Between its creation and its lock nothing tells that its process is alive."""
    tmp_path.chmod(0o755)
    lock, make = fcntl.flock, os.mkdir
    taken: list[str] = []

    def take(path: Path) -> None:
        taken.append(path.name)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()

    def late_lock(fd: int, operation: int) -> None:
        if len(taken) < 3:
            take(Path(f"/proc/self/fd/{fd}").readlink())
            if when == "while it is locked":
                raise BlockingIOError(errno.EAGAIN, "locked")
        lock(fd, operation)

    def removed(path: Path, mode: int) -> None:
        make(path, mode)
        if len(taken) < 3:
            take(path)

    if when == "as soon as it is there":
        monkeypatch.setattr(temporary.os, "mkdir", removed)
    else:
        monkeypatch.setattr(temporary.fcntl, "flock", late_lock)
        replace_file(tmp_path / "x", b"data")
        assert (tmp_path / "x").read_bytes() == b"data" and len(taken) == 3
        taken.clear()
    with new_folder(tmp_path / "x") as folder:
        (folder / "file").touch()
    assert len(taken) == 3 and names(tmp_path) in (["x"], [])


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from envpack.runtime.fs.temporary import replace_file, new_folder\n"
        "for n in range(150):\n"
        "    replace_file(Path(sys.argv[1]), b'data', durable=False)\n"
        "    with new_folder(Path(sys.argv[1])): pass\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, tmp_path / "x"]) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert names(tmp_path) == ["x"]


def test_what_another_host_writes_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File locks of some network file systems (BeeGFS, Lustre with localflock) are this host's only."""
    tmp_path.chmod(0o755)
    leave(tmp_path / "x")
    here = os.uname()
    monkeypatch.setattr(temporary.os, "uname", lambda: os.uname_result([here[0], "another-host", *here[2:]]))
    replace_file(tmp_path / "x", b"data")
    assert len(names(tmp_path)) == 3
    monkeypatch.undo()
    replace_file(tmp_path / "x", b"data")
    assert names(tmp_path) == ["x"]


def test_a_folder_swapped_for_another_is_not_worked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that was found to be private, not the one that its path leads to by now."""
    private, theirs = tmp_path / "private", tmp_path / "theirs"
    private.mkdir(0o755)
    theirs.mkdir()
    planted = temporary_path(theirs / "x")
    planted.mkdir()
    (planted / "file").touch()
    listing = os.listdir

    def swapped(folder: int | Path) -> list[str]:
        if private.exists():
            private.rename(tmp_path / "away")
            private.symlink_to(theirs)
        return listing(folder)

    monkeypatch.setattr(temporary.os, "listdir", swapped)
    replace_file(private / "x", b"data")
    assert (planted / "file").exists()


@pytest.mark.parametrize(("mode", "refused"), [(0o755, False), (0o777, True), (0o720, True)])
def test_a_folder_may_have_the_mode_that_its_file_system_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    """vfat and SMB give every folder the mode of their mount."""
    make = os.mkdir

    def mounted(path: Path, _: int) -> None:
        make(path)
        path.chmod(mode)

    monkeypatch.setattr(temporary.os, "mkdir", mounted)
    if refused:
        with pytest.raises(OSError, match="can write to it"), new_folder(tmp_path / "x"):
            raise AssertionError
    else:
        with new_folder(tmp_path / "x") as folder:
            (folder / "file").touch()
    assert names(tmp_path) == []


def test_a_file_gets_a_second_name_only_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with new_file(path) as new:
        os.write(new.fd, b"whole")
        new.create(path)
        with pytest.raises(FileExistsError):
            new.create(path)
    assert path.read_bytes() == b"whole"
    assert [each.name for each in tmp_path.iterdir()] == ["claim"]
    with new_file(tmp_path / "other") as new:
        new.path.unlink()
        new.path.symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="replaced the temporary file"):
            new.create(tmp_path / "other")
    assert not (tmp_path / "other").exists()
