"""Cloning of a file on a filesystem that shares blocks between files."""

from __future__ import annotations

import errno
import fcntl

from envpack.runtime.fs.io import create_file

FICLONE = 0x40049409
"""ioctl_ficlonerange(2): _IOW(0x94, 9, int) of <linux/fs.h>."""

CANT_CLONE = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ETXTBSY)
)
"""Error numbers of FICLONE which mean that the file can't be cloned and another method is to be used."""


def clone_file(source: int, path: bytes, mode: int, mtime: int) -> None:
    """Create a clone of an open file.

    Args:
        source: the descriptor of the file.
        path: the clone to create.
        mode: its permission bits, subject to the umask.
        mtime: its access and modification time, in seconds since the epoch.

    Raises:
        OSError: the clone can't be created; nothing is left of it. See `CANT_CLONE`.
    """
    create_file(path, mode, mtime, lambda fd: fcntl.ioctl(fd, FICLONE, source))
