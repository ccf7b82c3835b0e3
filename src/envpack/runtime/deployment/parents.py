"""The folders above what root writes: who else could replace them meanwhile.

Commands write by path. Whoever may rename a folder on the way could put a link in its place meanwhile, and root
would write the environment where the link leads.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.writers import other_writer
from envpack.runtime.report import Reporter

_ALL = "0 0 4294967295"
"""/proc/self/uid_map and gid_map where this process sees all users and groups as they are: user_namespaces(7)."""


def require_safe_parents(path: Path, *, allowed: bool = False) -> None:
    """Check, for root, that no other user could replace ``path`` or a folder above it.

    Args:
        path: What is written, without links; it and its parents need not exist.
        allowed: Whether the user has allowed it by name.

    Raises:
        DestinationError: Another user could.
    """
    reason = "" if allowed else replaceable(path)
    if reason:
        raise DestinationError(
            reason,
            hint="Run this as that user, choose another directory, or use --allow parent-owner if you trust all "
            "who can write there.",
        )


def warn_of_parents(path: Path, reporter: Reporter) -> None:
    """Warn when this is root, and other users could replace ``path`` or a folder above it."""
    reason = replaceable(path)
    if reason:
        reporter.warn(reason)


def replaceable(path: Path) -> str:
    """Return who could replace ``path`` or a folder above it, as a sentence; "" where nobody could, or not root.

    In a folder with the sticky bit only its owner can rename what belongs to root: inode(7).
    """
    if os.geteuid() != 0:
        return ""
    known, groups = {0, *_unmapped("uid")}, {0, *_unmapped("gid")}
    for folder in (path, *path.parents):
        try:
            status = os.stat(folder)
            writer = other_writer(folder, known, groups)
        except OSError:
            continue
        if not writer:
            continue
        if status.st_uid not in known:
            return f"{folder} belongs to {writer}, who could replace what root writes to {path}"
        if not status.st_mode & stat.S_ISVTX and stat.S_ISDIR(status.st_mode):
            return f"{folder} is writable for {writer}, who could replace what root writes to {path}"
    return ""


def _unmapped(kind: str) -> set[int]:
    """Return the number of all users ("uid"), or groups ("gid"), that a user namespace does not show.

    Nothing can be said of these.
    """
    try:
        if read_file(f"/proc/self/{kind}_map").decode("ascii").split() == _ALL.split():
            return set()
        return {int(read_file(f"/proc/sys/kernel/overflow{kind}"))}
    except (OSError, ValueError):
        return set()
