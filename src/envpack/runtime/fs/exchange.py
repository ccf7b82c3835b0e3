"""Two names that trade places in one step: renameat2(2) with RENAME_EXCHANGE."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100  # <fcntl.h>
_RENAME_EXCHANGE = 1 << 1  # <linux/fs.h>

_NUMBERS = {
    "x86_64": 316,
    "aarch64": 276,
    "riscv64": 276,
    "ppc64le": 357,
    "s390x": 347,
    "armv7l": 382,
    "i686": 353,
}
"""The system call's number, for C libraries without a function for it (glibc before 2.28): <asm/unistd.h>."""

WITHOUT = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP)
"""What says that a kernel or a filesystem (NFS, for one) can't do it, or that a sandbox forbids the call; where
EPERM means more than that, renaming in two steps fails the same way, before anything was done."""


def exchange(first: Path, second: Path) -> None:
    """Makes each of two paths on one filesystem the other. Raises OSError, one of `WITHOUT` where it can't be
    done."""
    library = ctypes.CDLL(None, use_errno=True)
    one, two = os.fsencode(first), os.fsencode(second)
    ctypes.set_errno(0)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, one, _AT_FDCWD, two, _RENAME_EXCHANGE)
    else:
        number = _NUMBERS.get(os.uname().machine)
        if number is None or not hasattr(library, "syscall"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(first))
        failed = library.syscall(number, _AT_FDCWD, one, _AT_FDCWD, two, _RENAME_EXCHANGE)
    if failed:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem), str(first))
