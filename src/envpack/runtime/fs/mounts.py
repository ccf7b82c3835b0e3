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

    Source: proc(5), ``/proc/self/mountinfo``: field 5, in which blanks and the like are octal. Returns nothing
    where that file can't be read.
    """
    root = os.path.realpath(os.fsencode(tree)).rstrip(b"/") + b"/"
    try:
        lines = read_file("/proc/self/mountinfo").splitlines()
    except OSError:
        return []
    points = (_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in lines)
    return sorted(Path(os.fsdecode(point)) for point in points if point.startswith(root))


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
