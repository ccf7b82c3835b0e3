"""Copy of bytes from one file to the end of another, inside the kernel where possible."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache

from envpack.runtime.fs.io import write_all


def copy(source: int, offset: int, target: int, size: int) -> None:
    """Append a range of one file to another.

    Args:
        source: Descriptor of the file to read.
        offset: Start of the range, in bytes.
        target: Descriptor of the file to append to.
        size: Length of the range, in bytes.

    Raises:
        OSError: A read or write failed, or ``source`` has fewer bytes.
    """
    while size:
        try:
            done = os.copy_file_range(source, target, size, offset_src=offset)
        except (OSError, AttributeError) as problem:  # not supported by this kernel or filesystem
            if getattr(problem, "errno", errno.ENOSYS) not in _NOT_IN_THE_KERNEL:
                raise
            data = os.pread(source, min(size, 1 << 20), offset)
            write_all(target, data)
            done = len(data)
        if not done:
            raise OSError(errno.EIO, "a file became shorter while it was copied")
        offset += done
        size -= done


_NOT_IN_THE_KERNEL = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)
"""Errors of copy_file_range after which the bytes are copied through a buffer instead."""


def copy_and_punch(source: int, offset: int, target: int, size: int, step: int = 16 << 20) -> None:
    """Append a range of one file to another, and punch a hole in its place where the filesystem supports holes.

    The bytes then occupy the disk and the page cache only once, and the kernel does not have to find new memory
    for them.

    Args:
        source: Descriptor of the file to read.
        offset: Start of the range, in bytes.
        target: Descriptor of the file to append to.
        size: Length of the range, in bytes.
        step: Bytes to copy before a hole is punched.

    Raises:
        OSError: As for `copy`.
    """
    end = offset + size
    while offset < end:
        length = min(step, end - offset)
        copy(source, offset, target, length)
        _punch_hole(source, offset, length)
        offset += length


def _punch_hole(descriptor: int, offset: int, size: int) -> None:
    call = _fallocate()
    if call is not None:
        call(descriptor, _PUNCH_MODE, offset, size)  # on an error the bytes stay until the file goes


_PUNCH_MODE = 3
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of <linux/falloc.h>."""


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "fallocate64", None)  # glibc only; elsewhere no hole is punched
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
