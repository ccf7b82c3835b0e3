"""Read and write whole files through descriptors."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator

AT_ONCE = 128 << 10
"""Bytes of one write(2): what cp(1) takes, whose ioblksize.h has figures. 4 MiB at once took a third longer."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of ``data``, which write(2) need not do at once."""
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
    """The file's bytes. Its size is asked for: a read of more would make room for that each time."""
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        while size > 0:
            piece = os.read(fd, min(size, _PIECE))
            if not piece:
                return
            size -= len(piece)
            yield piece
