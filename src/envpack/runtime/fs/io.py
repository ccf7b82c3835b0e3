"""Reading and writing of whole files through descriptors."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator

AT_ONCE = 128 << 10
"""Bytes of one write(2): the size that cp(1) uses, with measurements in its ioblksize.h. Writes of 4 MiB took a
third longer."""


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

_READ = os.O_RDONLY | os.O_CLOEXEC


@contextmanager
def opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _READ)
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
