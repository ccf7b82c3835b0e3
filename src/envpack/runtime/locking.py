"""Locks that a crash can't leave behind: the kernel drops them with the process."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import DestinationError


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock file ``path``, making it when missing; the file stays, or goes with its folder.

    With ``wait`` a lock held by somebody else is waited for; without, and where the file can't be made, raises
    DestinationError.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise DestinationError(f"can't make the lock {path}: {problem.strerror}") from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as problem:
                if problem.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                raise DestinationError(
                    f"another envpack is at work in {path.parent}", hint="Wait for it, then try again."
                ) from None
            if not _is_still(path, fd):
                continue  # its folder was moved into place or removed while we waited
            yield
            return
        finally:
            os.close(fd)


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
