"""Constants for cloning a file on a filesystem that shares blocks between files."""

from __future__ import annotations

import errno

FICLONE = 0x40049409
"""ioctl_ficlonerange(2): _IOW(0x94, 9, int) of <linux/fs.h>."""

CANT_CLONE = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ETXTBSY)
)
"""Error numbers of FICLONE which mean that the file can't be cloned and another method is to be used."""
