"""Bytes of one file appended to another, inside the kernel where it can."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache

from envpack.runtime.fs.io import write_all

_STEP = 16 << 20
"""Bytes that are moved before the file they came from lets go of them."""


def copy(source: int, offset: int, target: int, size: int) -> None:
    """Appends ``size`` bytes of the file ``source``, from ``offset`` on, to the file ``target``.

    Raises OSError, also when ``source`` has fewer.
    """
    while size:
        try:
            done = os.copy_file_range(source, target, size, offset_src=offset)
        except (OSError, AttributeError) as problem:  # not this kernel, or not between these filesystems
            if getattr(problem, "errno", errno.ENOSYS) not in _NOT_IN_THE_KERNEL:
                raise
            data = os.pread(source, min(size, 1 << 20), offset)
            write_all(target, data)
            done = len(data)
        if not done:
            raise OSError(errno.EIO, "a file that is copied became shorter")
        offset += done
        size -= done


_NOT_IN_THE_KERNEL = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


def move(source: int, offset: int, target: int, size: int) -> None:
    """The same, and ``source`` has a hole there afterwards, where its filesystem has holes: the bytes take room
    once, on the disk and in memory, which the kernel need not look for anew. Raises OSError as `copy` does."""
    end = offset + size
    while offset < end:
        step = min(_STEP, end - offset)
        copy(source, offset, target, step)
        _let_go(source, offset, step)
        offset += step


def _let_go(descriptor: int, offset: int, size: int) -> None:
    call = _fallocate()
    if call is not None:
        call(descriptor, _PUNCH_HOLE, offset, size)  # what can't be let go of stays until the file goes


_PUNCH_HOLE = 3
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of <linux/falloc.h>."""


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "fallocate64", None)  # glibc's; elsewhere nothing is let go of
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
