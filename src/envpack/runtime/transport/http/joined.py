"""Files on servers that are the pieces of one, in order: a range of it is read from the files that it lies in."""

from __future__ import annotations

import threading
from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple, Sequence

from envpack.runtime.transport.base import ByteSource
from envpack.runtime.transport.http.client import Client
from envpack.runtime.transport.http.pool import Pool
from envpack.runtime.transport.http.source import START, HttpSource
from envpack.runtime.transport.http.url import Url


class Piece(NamedTuple):
    """A file that is a piece of a larger one, and its size in bytes."""

    url: Url
    size: int


def open_joined(pieces: Sequence[Piece], pool: Pool, name: str, origin: str) -> ByteSource:
    """Open files on servers as one.

    Args:
        pieces: the files, in order.
        pool: the connections to use; closed with the source.
        name, origin: those of the source, see `ByteSource`.

    Raises:
        FetchError: a server does not give a file, or the file has another size.
    """
    reader = JoinedReader(pieces, pool)
    start = bytearray(min(START, reader.total))
    try:
        reader.fill(0, memoryview(start))
    except BaseException:
        reader.close()
        raise
    return HttpSource(reader, bytes(start), name, origin)


class JoinedReader:
    """A `RangeReader` of pieces."""

    def __init__(self, pieces: Sequence[Piece], pool: Pool) -> None:
        self._pieces = [piece for piece in pieces if piece.size]
        self._ends = list(accumulate(piece.size for piece in self._pieces))
        self._pool = pool
        self._clients: dict[int, Client] = {}
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        return self._ends[-1] if self._ends else 0

    def fill(self, start: int, view: memoryview) -> None:
        while view:
            index = bisect_right(self._ends, start)
            end = self._ends[index]
            part = view[: end - start]
            self._client(index).fill(start - (end - self._pieces[index].size), part)
            start, view = start + len(part), view[len(part) :]

    def _client(self, index: int) -> Client:
        with self._lock:
            if index not in self._clients:
                piece = self._pieces[index]
                self._clients[index] = Client(piece.url, self._pool, piece.size)
            return self._clients[index]

    def cancel(self) -> None:
        self._pool.cancel()

    def close(self) -> None:
        self._pool.close()
