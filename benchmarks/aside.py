"""Trees that were measured, kept out of the way for as long as the disk has room for them.

For six minutes after files were removed, ext4 looks at every inode that was freed before it takes one for a new
file (``recently_deleted`` in fs/ext4/ialloc.c: RECENTCY_MIN is 60 s, RECENTCY_DIRTY 300 s more). Right after
46,000 were removed, writing as many took 17 to 45 s instead of 11, whatever program wrote them.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from measure import say

RECENT = 365.0
"""Seconds for which removed files are in the way of new ones."""

MANY = 1000
"""Files; fewer are removed without waiting."""


class Aside:
    """``folder`` is where they are moved, on the disk of what is measured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._removed: float | None = None

    def drop(self, path: Path) -> None:
        """Remove a file, or put a folder aside."""
        if path.is_dir() and not path.is_symlink():
            self._folder.mkdir(exist_ok=True)
            self._count += 1
            path.rename(self._folder / str(self._count))
        else:
            path.unlink(missing_ok=True)

    def room(self, size: float) -> None:
        """Remove the trees that were put aside if less than ``size`` bytes are free."""
        if self._folder.exists() and shutil.disk_usage(self._folder).free < size:
            many = sum(len(files) for _, _, files in os.walk(self._folder)) > MANY
            remove(self._folder)
            if many:
                self._removed = time.monotonic()
        if self._removed is not None:
            left = self._removed + RECENT - time.monotonic()
            if left > 0:
                say(f"waiting {left:.0f} s, because the filesystem is slow after many files were removed")
                time.sleep(left)
            self._removed = None


def remove(path: Path) -> None:
    """Remove a file or folder of any kind."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
