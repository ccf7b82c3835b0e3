"""Making sure that what was written survives a power cut, at the cost of one call for a whole tree."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def sync_filesystem(path: Path) -> None:
    """Writes everything of the filesystem that holds ``path`` to its disk: syncfs(2), else sync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Writes a folder's entries to the disk, so that a rename in it lasts."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
