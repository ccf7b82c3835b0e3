"""Hard links and clones of a file, or copies of it on filesystems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from envpack.runtime.fs.io import create_file, read_pieces, write_pieces

CANT_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES))
"""Error numbers of link(2) which mean that the filesystem has no hard links, or not between these folders: EXDEV
on BeeGFS and AFS, EPERM on SMB and many FUSE filesystems (link(2): "the filesystem does not support the creation
of hard links")."""


def link_or_copy(source: bytes, target: bytes) -> None:
    """Create ``target`` as a hard link to the file ``source``, or as a copy with its mode and times.

    A copy is made where the filesystem has no hard links, and where the file has as many as it can have.

    Raises:
        FileExistsError: something has that name already.
        OSError: the file can't be read, linked or written.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in CANT_LINK and problem.errno != errno.EMLINK:
            raise
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)
            return
        create_file(
            target, status.st_mode & 0o7777, None, lambda fd: write_pieces(fd, read_pieces(source)), exact=True
        )
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


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
