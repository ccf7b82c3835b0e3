"""File locks that a crash can't leave behind: the kernel releases them when the process ends.

Where a filesystem has no file locks (Lustre without ``-o flock``, some FUSE filesystems, NFS without its lock
daemon), the lock is a name in the kernel's own namespace of sockets (unix(7), "abstract"): it excludes the
processes of this host, but not those of other hosts, and the caller learns that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import LOCK, READ, keep_owner, other_owner

if TYPE_CHECKING:
    from socket import socket

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Error numbers of flock(2) which mean that the filesystem has no file locks."""

_POLL = 0.05
"""Seconds between two attempts to take a name of a socket, for which there is no waiting."""

_ATTEMPTS = 1000
"""Number of times that the folder may vanish before the lock is held: other processes remove it when they finish,
but not without end."""


@contextmanager
def locked(
    path: Path, *, wait: bool, folder_mode: int | None = None, warn: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path`` while the block runs.

    The file is created when it is missing. It is not removed afterwards, except together with its folder.

    Args:
        path: the lock file.
        wait: wait while another process holds the lock, instead of raising an error.
        folder_mode: permission bits with which a missing folder of the file is created, also after the previous
            holder of the lock has removed it; None: the folder must exist.
        warn: called with a message where the filesystem has no file locks, so that only processes of this host are
            excluded.

    Raises:
        DestinationError: another process holds the lock and ``wait`` is false, or the file can't be created or
            locked.
    """
    for _ in range(_ATTEMPTS):
        try:
            if folder_mode is not None:
                path.parent.mkdir(mode=folder_mode, exist_ok=True)
            fd = _open(path)
        except OSError as problem:
            if folder_mode is not None and problem.errno == errno.ENOENT and path.parent.parent.is_dir():
                continue
            if folder_mode is not None:
                with suppress(OSError):
                    path.parent.rmdir()  # empty, if it is ours
            if folder_mode is not None and not path.parent.is_dir():
                raise _unwritable(path.parent.parent, problem) from None
            raise DestinationError(f"can't create the lock {path}: {problem.strerror}") from None
        held: socket | None = None
        try:
            try:
                held = _take(fd, wait)
            except OSError as problem:
                if problem.errno not in (errno.EACCES, errno.EAGAIN):
                    raise DestinationError(f"can't lock {path}: {problem.strerror}") from None
                raise DestinationError(
                    f"another envpack process has locked {path.parent}",
                    hint="Wait for it with --wait (deploy, rollback, move, remove), or try again later.",
                ) from None
            if not _is_same_file(path, fd):
                continue  # its folder was renamed or removed while we waited
            if held is not None and warn is not None:
                warn(
                    f"the filesystem of {path.parent} has no file locks, so only processes on this host are kept "
                    "out; don't run envpack there on two hosts at the same time"
                )
            yield
            return
        finally:
            os.close(fd)
            if held is not None:
                held.close()
    raise DestinationError(f"can't create the lock {path}: another process keeps removing its directory")


@contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder itself for the block, which is to be short; nothing is created in the folder.

    The block runs without the lock when another process has held it for 10 seconds, which any user can do who may
    read the folder, and where the filesystem has no locks.
    """
    try:
        fd = os.open(folder, READ | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        for _ in range(100):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as problem:
                if problem.errno not in (errno.EACCES, errno.EAGAIN):
                    break
                time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """Open a lock file, which is created when it is missing, for the owner of its folder: they lock it later."""
    try:
        fd = os.open(path, LOCK | os.O_EXCL, 0o644)
    except FileExistsError:
        return os.open(path, LOCK, 0o644)
    with suppress(FileNotFoundError):  # the folder is removed just now
        owner = other_owner(path.parent)
        if owner is not None:
            keep_owner(fd, owner)
    return fd


def _take(fd: int, wait: bool) -> socket | None:
    """Lock an open file; return what holds the lock instead where its filesystem has no locks.

    Raises:
        OSError: with EAGAIN or EACCES, another process holds the lock and ``wait`` is false.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return None
    except OSError as problem:
        if problem.errno not in NO_LOCKS:
            raise
        unsupported = problem
    import socket  # only here: few filesystems are without locks

    status = os.fstat(fd)
    name = f"\0envpack-lock-{status.st_dev:x}-{status.st_ino:x}"
    while True:
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(name)
            return held
        except BaseException as problem:
            held.close()
            if not isinstance(problem, OSError):
                raise
            if problem.errno != errno.EADDRINUSE:
                raise unsupported from None
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        time.sleep(_POLL)


def _unwritable(folder: Path, problem: OSError) -> DestinationError:
    return DestinationError(
        f"can't write to {folder}: {problem.strerror}",
        hint="Choose a destination that you can write to, or ask for permission.",
    )


def _is_same_file(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
