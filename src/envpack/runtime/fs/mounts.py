"""Filesystems that are mounted inside a tree: what is in them does not belong to the tree."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Iterable

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import read_file

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mounts_below(tree: Path) -> list[Path]:
    """Return the paths below a folder, itself left out, where something is mounted; also bind mounts.

    Returns nothing where the list of mounts can't be read.
    """
    root = os.path.realpath(os.fsencode(tree)).rstrip(b"/") + b"/"
    return sorted(Path(os.fsdecode(point)) for point in _mount_points() if point.startswith(root))


def is_mount_point(folder: Path) -> bool:
    """Return whether something is mounted at a folder; also a bind mount, where the list of mounts can be read.

    Raises OSError when the folder can't be examined.
    """
    if os.stat(folder).st_dev != os.stat(folder.parent).st_dev:
        return True
    return os.path.realpath(os.fsencode(folder)) in _mount_points()


def _mount_points() -> list[bytes]:
    """Return all paths where something is mounted; none where they can't be read.

    Source: proc(5), ``/proc/self/mountinfo``: field 5, in which blanks and the like are octal.
    """
    try:
        lines = read_file("/proc/self/mountinfo").splitlines()
    except OSError:
        return []
    return [_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in lines]


def require_no_mounts(trees: Iterable[Path], what: str) -> None:
    """Raise DestinationError where something is mounted below one of ``trees``; ``what`` was to be done."""
    for tree in trees:
        for mount in mounts_below(tree):
            raise DestinationError(
                f"a filesystem is mounted at {mount}: {what} would take the files in it along",
                hint="Unmount it first.",
            )


def refuse_mounts(tree: Path) -> None:
    """Raise OSError (EBUSY) where something is mounted below a folder, before the folder is removed or copied."""
    for mount in mounts_below(tree):
        raise OSError(errno.EBUSY, "a filesystem is mounted there: unmount it first", str(mount))
