"""Creation, reading and writing of whole files through descriptors, and the flags to open them with."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import Callable, Iterable, Iterator

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a file that must not exist: nothing is written to what somebody else put there, be it a link."""

READ = os.O_RDONLY | os.O_CLOEXEC

READ_UNTRUSTED = READ | os.O_NOFOLLOW | os.O_NONBLOCK
"""For a path that may have become anything: no link is followed, and a FIFO is not waited for. Check the type of
what is open."""

READ_FOLDER = READ | os.O_DIRECTORY | os.O_NOFOLLOW
"""For a folder itself, not a link to one."""

LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a lock file, which is created when it is missing."""

AT_ONCE = 128 << 10
"""Bytes of one write(2): the size that cp(1) uses, with measurements in its ioblksize.h. Writes of 4 MiB took a
third longer."""


def create_file(
    path: bytes, mode: int, mtime: int | None, fill: Callable[[int], object], *, exact: bool = False
) -> None:
    """Create a file and fill it; remove it again when that fails.

    Args:
        path: the file to create.
        mode: its permission bits.
        mtime: its access and modification time, in seconds since the epoch; None: the current time.
        fill: called with the descriptor of the empty file.
        exact: set ``mode`` whatever the umask is, and last, so that nobody else can open a file in the making.

    Raises:
        FileExistsError: something has that name already.
        OSError: the file can't be created or written.
    """
    fd = os.open(path, CREATE, 0o600 if exact else mode)
    try:
        fill(fd)
        if exact:
            os.fchmod(fd, mode)
        if mtime is not None:
            os.utime(fd, (mtime, mtime))
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def write_pieces(fd: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write all of ``pieces`` to a descriptor.

    Raises:
        OSError: a write failed.
    """
    for piece in pieces:
        write_all(fd, piece)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` to a descriptor; one write(2) may write only a part.

    Raises:
        OSError: a write failed.
    """
    if len(data) > AT_ONCE:
        data = memoryview(data)
    done = 0
    while done < len(data):
        done += os.write(fd, data[done : done + AT_ONCE])


_PIECE = 1 << 20


@contextmanager
def opened(path: bytes) -> Iterator[int]:
    """Open a file for reading, and yield its descriptor."""
    fd = os.open(path, READ)
    try:
        yield fd
    finally:
        os.close(fd)


def read_pieces(path: bytes) -> Iterator[bytes]:
    """Yield the content of a file in pieces of at most 1 MiB.

    No read asks for more than the rest of the file: os.read allocates as many bytes as it is asked for.

    Raises:
        OSError: the file can't be opened or read.
    """
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        while size > 0:
            piece = os.read(fd, min(size, _PIECE))
            if not piece:
                return
            size -= len(piece)
            yield piece
