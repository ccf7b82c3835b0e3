"""The users who can write to a folder, by its owner, its mode and its access control list."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Collection, Iterator

from envpack.runtime.fs.io import ACL

_DEFAULT_ACL = "system.posix_acl_default"
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_WRITE = 0x02
"""The extended attributes of access control lists (acl(5)): a version, then entries of tag, permissions and id.
Values: <linux/posix_acl_xattr.h> and <linux/posix_acl.h>."""

_LAST_SYSTEM_GROUP = 999
"""The largest number of a system group: login.defs(5), SYS_GID_MAX."""


def other_writer(path: Path, trusted: Collection[int], groups: Collection[int] = (0,)) -> str:
    """Return a user or group who can write to a file or folder, such as "the group staff"; "" where there is none.

    Its owner counts, who can change its mode. The private group of a trusted user does not: one of the same name,
    with no other member (login.defs(5), USERGROUPS_ENAB). Neither does a system group without members, as Debian's
    staff, to which /usr/local and /var/local belong (Debian Policy, 9.1.2).

    Args:
        path: The file or folder; a link is followed.
        trusted: The user ids that do not count.
        groups: The group ids that do not count, by default that of root.

    Raises:
        OSError: There is nothing, or it can't be read.
    """
    status = os.stat(path)
    if status.st_uid not in trusted:
        return user_name(status.st_uid)
    if status.st_mode & stat.S_IWOTH:
        return "all users"
    if not status.st_mode & stat.S_IWGRP:  # with a list, this bit is its mask: acl(5)
        return ""
    for tag, number in _list_of(path, status.st_gid):
        if tag == _USER and number not in trusted:
            return user_name(number)
        if tag != _USER and number not in groups and not _is_closed(number, trusted):
            return group_name(number)
    return ""


def default_mode(folder: Path) -> int:
    """Return the permission bits that a folder's default list leaves what is created in it; 0o777 without one."""
    bits = dict.fromkeys((_USER_OBJ, _GROUP_OBJ, _OTHER), 0o7)
    bits.update((tag, permissions) for tag, permissions, _ in _entries(folder, _DEFAULT_ACL))
    return bits[_USER_OBJ] << 6 | bits.get(_MASK, bits[_GROUP_OBJ]) << 3 | bits[_OTHER]


def _list_of(path: Path, group: int) -> Iterator[tuple[int, int]]:
    """Yield the tag and the number of each entry, below the mask, that may write; _GROUP_OBJ for the own group."""
    entries = _entries(path, ACL) or [(_GROUP_OBJ, _WRITE, 0)]
    for tag, permissions, number in entries:
        if permissions & _WRITE and tag in (_USER, _GROUP, _GROUP_OBJ):
            yield tag, group if tag == _GROUP_OBJ else number


def _entries(path: Path, attribute: str) -> list[tuple[int, int, int]]:
    """Return the entries of a list; none where there is no list, or none that is known."""
    try:
        data = os.getxattr(path, attribute)
        if struct.unpack_from("<I", data)[0] == _ACL_VERSION:
            return list(struct.iter_unpack("<HHI", data[4:]))
    except (OSError, struct.error):
        pass
    return []


def _is_closed(group: int, trusted: Collection[int]) -> bool:
    """Return whether a group has no member but trusted users, as far as this host's lists show.

    Members of larger numbers may be in a directory service that lists none (sssd.conf(5), ignore_group_members).
    """
    with suppress(KeyError):
        entry = grp.getgrgid(group)
        if group <= _LAST_SYSTEM_GROUP and not entry.gr_mem:
            return all(user.pw_uid in trusted for user in pwd.getpwall() if user.pw_gid == group)
        owner = pwd.getpwnam(entry.gr_name)
        return owner.pw_uid in trusted and owner.pw_gid == group and set(entry.gr_mem) <= {owner.pw_name}
    return False


def user_name(uid: int) -> str:
    """Return what a message calls a user, such as "the user alice"."""
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"


def group_name(gid: int) -> str:
    """Return what a message calls a group, such as "the group staff"."""
    try:
        return f"the group {grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"the group {gid}"
