"""The folders above a destination: who else could replace them while root writes there.

Commands write by path. Whoever may rename a folder on the way could put a link in its place meanwhile, and root
would write the environment where the link leads.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter

PARENT_OWNER = "parent_owner"
"""The name, in the ``allow`` of a policy, that lets root deploy below a folder of another user."""

_ALL_USERS = "0 0 4294967295"
"""/proc/self/uid_map where this process sees all users as they are: user_namespaces(7)."""


def check_parents(path: Path, reporter: Reporter, *, refuse: bool = False, allowed: bool = False) -> None:
    """Warn when this is root, and other users could replace a folder above ``path``.

    Args:
        path: What is written; its parents need not exist.
        reporter: Receives the warnings.
        refuse: Raise an error when another user owns such a folder, instead of warning.
        allowed: Whether the user has allowed all of this by name.

    Raises:
        DestinationError: Only with ``refuse``.
    """
    if os.geteuid() != 0 or allowed:
        return
    known = {0, *_unmapped()}
    for folder in path.parents:
        if not folder.exists():
            continue
        status = os.stat(folder)
        if status.st_uid not in known:
            name = _name(status.st_uid)
            message = f"{folder} belongs to {name}, who could replace what root writes to {path}"
            if refuse:
                raise DestinationError(
                    message,
                    hint=f"Deploy as {name}, choose another folder, or ignore this with --allow parent-owner.",
                )
            reporter.warn(message)
            return
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            reporter.warn(f"{folder} is writable for all users, who could replace what root writes to {path}")
            return


def _unmapped() -> set[int]:
    """Return the user id of all users that a user namespace does not show; nothing can be said of these."""
    try:
        if read_file("/proc/self/uid_map").decode("ascii").split() == _ALL_USERS.split():
            return set()
        return {int(read_file("/proc/sys/kernel/overflowuid"))}
    except (OSError, ValueError):
        return set()


def _name(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
