"""Atomic replacement: the new content or the old, nothing left beside it, and nothing written through a link."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.runtime.fs.atomic import (
    ReplaceBatch,
    is_temporary_name,
    remove_temporary,
    replace_own_file,
    replacement,
    temporary_of,
)
from envpack.runtime.fs.io import ACL, access_list
from envpack.runtime.fs.paths import ReplacedFolder
from faults.planted import run_as
from support.trees import set_list


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def a_file(path: Path, other: Path) -> None:
    path.write_text("left by a crash")


def a_link(path: Path, other: Path) -> None:
    path.symlink_to(other)


def a_hard_link(path: Path, other: Path) -> None:
    path.hardlink_to(other)


@pytest.mark.parametrize("leave", [a_file, a_link, a_hard_link])
def test_what_is_at_the_temporary_path_is_never_written_through(
    tmp_path: Path, leave: Callable[[Path, Path], None]
) -> None:
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_text("untouched")
    leave(temporary_of(path), other)
    replace_own_file(path, b"new")
    assert path.read_bytes() == b"new" and other.read_text() == "untouched"
    assert names(tmp_path) == ["other", "x"]
    batch = ReplaceBatch()
    leave(
        Path(os.fsdecode(batch.file(os.fsencode(tmp_path / "y"), b"1", 0o600))).with_name(".z.envpack-new"), other
    )
    batch.file(os.fsencode(tmp_path / "z"), b"2", 0o640)
    batch.put()
    assert names(tmp_path) == ["other", "x", "y", "z"] and other.read_text() == "untouched"
    assert (tmp_path / "z").stat().st_mode & 0o777 == 0o640


def test_a_failed_block_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacement(path) as temporary:
        assert is_temporary_name(temporary.name)
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == ["x"]


def test_a_link_to_the_same_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("same")
    with replacement(path) as temporary:
        temporary.hardlink_to(path)
    assert path.read_text() == "same" and names(tmp_path) == ["x"]


def test_a_folder_is_replaced_only_on_request_and_when_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    with pytest.raises(IsADirectoryError), replacement(path) as temporary:
        temporary.symlink_to("target")
    (path / "file").touch()
    with pytest.raises(OSError, match="not empty"), replacement(path, over_folder=True) as temporary:
        temporary.symlink_to("target")
    assert names(tmp_path) == ["x"]
    (path / "file").unlink()
    with replacement(path, over_folder=True) as temporary:
        temporary.symlink_to("target")
    assert path.readlink() == Path("target") and names(tmp_path) == ["x"]


def test_the_mode_of_a_file_is_subject_to_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        replace_own_file(tmp_path / "x", b"", 0o666)
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_batch_is_renamed_whole_or_dropped(tmp_path: Path) -> None:
    one, two = (os.fsencode(tmp_path / name) for name in ("one", "two"))
    batch = ReplaceBatch()
    batch.link(batch.file(one, b"1", 0o644, mtime=5), two)
    assert all(map(is_temporary_name, names(tmp_path)))
    batch.put()
    assert (tmp_path / "one").samefile(tmp_path / "two") and (tmp_path / "one").stat().st_mtime == 5
    dropped = ReplaceBatch()
    dropped.file(one, b"2", 0o644)
    assert dropped.drop()
    left = ReplaceBatch()
    left.file(two, b"3", 0o644)
    remove_temporary(two)
    assert names(tmp_path) == ["one", "two"] and (tmp_path / "one").read_text() == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to a group that it is not in")
@pytest.mark.parametrize(("mode", "kept"), [(0o660, 0o600), (0o664, 0o644), (0o640, 0o600), (0o604, 0o604)])
def test_another_group_does_not_get_the_permissions_of_the_one_that_can_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, kept: int
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not a member")

    one, two, folder = (tmp_path / name for name in ("one", "two", "folder"))
    one.touch()
    two.touch()
    folder.mkdir()
    for path in (one, two, folder):
        os.chown(path, -1, 4242)
        path.chmod(mode)
    batch = ReplaceBatch()
    empty = ReplacedFolder.at(folder)
    assert empty is not None
    folder.rmdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fchown", refuse)
        patched.setattr(os, "chown", refuse)
        replace_own_file(one, b"new")
        batch.file(os.fsencode(two), b"new", mode, owner=two.stat())
        batch.put()
        empty.make(folder)
    for path in (one, two, folder):
        assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (kept, os.getegid()), path


OWNER, GROUP = 12346, 12100
CLOSED_TO_THE_GROUP = [(0x01, 7, -1), (0x02, 7, 4242), (0x04, 0, -1), (0x10, 7, -1), (0x20, 0, -1)]
"""In the mode, the group has rwx: the mask of the list."""


@pytest.mark.parametrize("user", [0, OWNER])
@pytest.mark.parametrize("refused", [False, True])
def test_a_group_gets_no_more_than_its_access_control_list_allowed(user: int, refused: bool) -> None:
    if os.geteuid() != 0:
        if user == 0:
            pytest.skip("needs root")
        user = os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        top = Path(name)
        one, two, folder = (top / each for each in ("one", "two", "folder"))
        one.touch()
        two.touch()
        folder.mkdir()
        for path in (top, one, two, folder):
            if os.geteuid() == 0:
                os.chown(path, user, GROUP)
            if path != top:
                set_list(path, CLOSED_TO_THE_GROUP)
        assert one.stat().st_mode & 0o777 == 0o770
        lists = [os.getxattr(path, ACL) for path in (one, two, folder)]

        def refuse(*_: object) -> None:
            raise OSError(errno.EINVAL, "a user that is not known here")

        def work() -> int:
            if refused:
                os.setxattr = refuse  # type: ignore[assignment]
            replace_own_file(one, b"new", 0o770)
            batch = ReplaceBatch()
            batch.file(os.fsencode(two), b"new", 0o770, owner=two.stat())
            batch.put()
            before = ReplacedFolder.at(folder)
            assert before is not None
            folder.rmdir()
            before.make(folder)
            return 0

        said = top / "said"
        assert run_as(user if os.geteuid() == 0 else 0, work, said) == 0, said.read_text()
        for path, acl in zip((one, two, folder), lists, strict=True):
            group = access_list(path) or path.stat().st_mode & 0o070
            assert group == (0 if refused else acl), path


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_new_file_of_root_s_belongs_to_the_owner_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, OWNER, GROUP)
    replace_own_file(folder / "new", b"new")
    replace_own_file(tmp_path / "own", b"new")
    assert [path.stat().st_uid for path in (folder / "new", tmp_path / "own")] == [OWNER, 0]
    assert (folder / "new").stat().st_gid == GROUP
