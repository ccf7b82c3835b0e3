"""Who else can write to a folder: by owner, mode and group, with the users and groups of this system."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from envpack.runtime.fs.writers import group_name, other_writer, user_name
from support.trees import let_write

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NONE = 54321
"""A number of no user and no group."""


def test_a_folder_that_its_owner_alone_can_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert other_writer(tmp_path, (os.geteuid(),)) == ""
    assert other_writer(tmp_path, (NONE,)) == f"the user {pwd.getpwuid(os.geteuid()).pw_name}"


@pytest.mark.parametrize(("mode", "writer"), [(0o757, "all users"), (0o1777, "all users"), (0o755, "")])
def test_all_users(tmp_path: Path, mode: int, writer: str) -> None:
    tmp_path.chmod(mode)
    assert other_writer(tmp_path, (os.geteuid(),)) == writer


def test_names_that_are_not_known_are_numbers() -> None:
    assert (user_name(NONE), group_name(NONE)) == (f"the user {NONE}", f"the group {NONE}")


def _has_users(group: grp.struct_group) -> bool:
    return bool(group.gr_mem) or any(user.pw_gid == group.gr_gid for user in pwd.getpwall())


@ROOT_ONLY
def test_groups(tmp_path: Path) -> None:
    """daemon is a user, and the group of that user, on every Linux (LSB 5.0, Core, 22.2)."""
    daemon = pwd.getpwnam("daemon")
    other = next(each for each in grp.getgrall() if each.gr_gid not in (0, daemon.pw_gid) and _has_users(each))
    for owner, group, trusted, writer in (
        (0, 0, (0,), ""),
        (0, NONE, (0,), f"the group {NONE}"),
        (0, daemon.pw_gid, (0,), "the group daemon"),
        (0, daemon.pw_gid, (0, daemon.pw_uid), ""),
        (daemon.pw_uid, other.gr_gid, (daemon.pw_uid,), f"the group {other.gr_name}"),
    ):
        os.chown(tmp_path, owner, group)
        tmp_path.chmod(0o2775)
        assert other_writer(tmp_path, trusted) == writer, (owner, group, trusted)


@ROOT_ONLY
def test_a_system_group_without_members(tmp_path: Path) -> None:
    primary = {user.pw_gid for user in pwd.getpwall()}
    empty = [each for each in grp.getgrall() if 0 < each.gr_gid < 1000 and not each.gr_mem]
    for group, writer in (
        (next((each for each in empty if each.gr_gid not in primary), None), ""),
        (next((each for each in empty if each.gr_gid in primary), None), "the group"),
    ):
        if group is None:
            pytest.skip("no such group here")
        os.chown(tmp_path, 0, group.gr_gid)
        tmp_path.chmod(0o2775)
        assert other_writer(tmp_path, (0,)) == f"{writer} {group.gr_name}" * bool(writer), group


@ROOT_ONLY
def test_an_access_control_list(tmp_path: Path) -> None:
    let_write(tmp_path, NONE)
    assert other_writer(tmp_path, (0,)) == f"the user {NONE}"
    assert other_writer(tmp_path, (0, NONE)) == ""
    tmp_path.chmod(0o755)  # its mask
    assert other_writer(tmp_path, (0,)) == ""
