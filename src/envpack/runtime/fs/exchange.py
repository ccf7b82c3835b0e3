"""Atomic exchange of two names: renameat2(2) with RENAME_EXCHANGE."""

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
    "ppc64le": 357,
}
"""System call number of renameat2 by machine, for C libraries without that function (glibc before 2.28); source:
<asm/unistd.h>."""

UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP)
"""Error numbers which mean that the kernel or the filesystem (such as NFS) does not support the exchange, or that
a sandbox forbids the call. Where EPERM has another cause, renaming in two steps fails with it too, before anything
is changed."""


def exchange(first: Path, second: Path) -> None:
    """Exchange two paths on one filesystem atomically.

    Raises:
        OSError: the exchange failed; its errno is one of `UNSUPPORTED` where it is not supported.
    """
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
