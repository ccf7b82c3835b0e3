"""A bundle on a server as a `ByteSource`: announced reads are prefetched in large ranges, several at once."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Callable, Iterable, Iterator, NamedTuple, Protocol, Sequence

from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.transport.base import ByteSource, Extent, StreamSource
from envpack.runtime.transport.http.client import Client
from envpack.runtime.transport.http.pool import Pool
from envpack.runtime.transport.http.url import Url, parse_url

CONNECTIONS = 4
RANGE = 8 << 20
"""Bytes of the largest range of one request: Amazon S3's guide advises 8 or 16 MB, on several connections
("Performance guidelines: byte-range fetches"). One range for each connection is held in memory."""
GAP = 64 << 10
"""Bytes of the largest gap between two extents that is fetched too, which saves a request: they arrive in a few
milliseconds."""
START = 64 << 10
"""Bytes that are requested when a file is opened."""


def open_url(text: str) -> ByteSource:
    """Open the file at an ``http`` or ``https`` URL.

    From a server that does not support ranges, the file is read as one stream.

    Raises:
        FetchError: the server does not give the file.
        UsageError: the URL is not valid.
    """
    pool = Pool()
    url = parse_url(text)
    return _open(Client(url, pool), pool, str(url))


def open_signed(sign: Callable[[], str], name: str) -> ByteSource:
    """Open a file whose URL has a signature that is valid for some time only.

    Args:
        sign: returns the URL, with a new signature.
        name: the address of the file in messages, and its origin.

    Raises:
        FetchError: the server does not give the file.
        EnvpackError: whatever ``sign`` raises.
    """

    def url() -> Url:
        return replace(parse_url(sign()), authorization="")  # a password of ~/.netrc would be a second proof

    pool = Pool()
    return _open(Client(url(), pool, renewed=url), pool, name)


def _open(client: Client, pool: Pool, name: str) -> ByteSource:
    try:
        stream, start = client.start(START)
    except BaseException:
        pool.close()
        raise
    if stream is not None:
        return StreamSource(stream, name, name, stream.size)
    return HttpSource(client, start, name)


class RangeReader(Protocol):
    """Something on a server of which ranges can be read, from several threads: a file, or pieces of one.

    Attributes:
        total: The size in bytes.
    """

    @property
    def total(self) -> int: ...

    def fill(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from offset ``start`` on.

        Raises:
            FetchError: a server does not give the bytes, or what it has was replaced.
        """
        ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class HttpSource(ByteSource):
    """A file on a server that supports ranges, or several that are read as one.

    Args:
        reader: reads its ranges; `close` closes it.
        start: the first bytes of the file, fetched already.
        name: the URL as it may be printed, for messages.
        origin: the origin that a deployment records; the URL if empty.
    """

    is_remote = True

    def __init__(self, reader: RangeReader, start: bytes, name: str, origin: str = "") -> None:
        super().__init__(name, origin or name, reader.total)
        self._reader, self._start = reader, start
        self.at_hand = len(start)
        self._lock = threading.Lock()
        self._pool = threads(CONNECTIONS, "fetch")
        self._prefetcher = _Prefetcher(reader, self._pool, ())

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self._reader.total - offset))
        known = self._start[offset:][:size]
        if len(known) == size:
            return known
        offset, size = offset + len(known), size - len(known)
        with self._lock:
            pieces = [known, *self._prefetcher.take(offset, size)]
        return b"".join(pieces) if pieces[2:] or known else pieces[1]

    def prefetch(self, extents: Sequence[Extent]) -> None:
        known = len(self._start)
        total = self._reader.total
        with self._lock:
            self._prefetcher.cancel()
            unknown = ((max(start, known), min(start + size, total)) for start, size in extents)
            self._prefetcher = _Prefetcher(self._reader, self._pool, ranges(unknown))

    def cancel(self) -> None:
        self._reader.cancel()

    def close(self) -> None:
        self._prefetcher.cancel()
        self._reader.cancel()
        self._pool.shutdown()
        self._reader.close()


class Range(NamedTuple):
    start: int
    end: int


def ranges(extents: Iterable[tuple[int, int]]) -> Iterator[Range]:
    """Yield the ranges to request for extents, in the order of the extents.

    An extent that starts at most `GAP` bytes behind the end of the one before is joined to it. The result is cut
    into ranges of at most `RANGE` bytes.

    Args:
        extents: (start, end) pairs, offsets in bytes, the end exclusive; empty ones are skipped.
    """
    joined: list[list[int]] = []
    for start, end in extents:
        if start >= end:
            continue
        if joined and 0 <= start - joined[-1][1] <= GAP:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    for start, end in joined:
        for part in range(start, end, RANGE):
            yield Range(part, min(part + RANGE, end))


class _PendingRange(NamedTuple):
    """A range that is being fetched to the beginning of ``buffer``; ``done`` completes when it is there."""

    range: Range
    buffer: bytearray
    done: Future[None]


class _Prefetcher:
    """A prefetcher of ranges, at most `CONNECTIONS` at a time, in the order in which they will be read.

    Buffers are reused: freed and allocated one by one, they would take twice as much memory.
    """

    def __init__(self, reader: RangeReader, pool: ThreadPoolExecutor, todo: Iterable[Range]) -> None:
        self._reader, self._pool = reader, pool
        self._todo = deque(todo)
        self._pending: deque[_PendingRange] = deque()
        self._free: list[bytearray] = []

    def take(self, offset: int, size: int) -> Iterator[bytes]:
        """Yield the bytes of an extent, in pieces; bytes that were not announced get a request of their own."""
        while size:
            self._advance(offset)
            first = self._pending[0] if self._pending else None
            if first is None or not first.range.start <= offset < first.range.end:
                data = bytearray(size)
                self._reader.fill(offset, memoryview(data))
                yield bytes(data)
                return
            first.done.result()
            start, end = offset - first.range.start, first.range.end - first.range.start
            piece = bytes(memoryview(first.buffer)[start:end][:size])
            yield piece
            offset, size = offset + len(piece), size - len(piece)

    def _advance(self, offset: int) -> None:
        """Drop the ranges that end at or before ``offset``, and request the next ones."""
        while self._pending and self._pending[0].range.end <= offset:
            passed = self._pending.popleft()
            if passed.done.cancel() or passed.done.done():
                self._free.append(passed.buffer)
        while self._todo and len(self._pending) < CONNECTIONS:
            next_range = self._todo.popleft()
            if next_range.end > offset:
                buffer = self._free.pop() if self._free else bytearray(RANGE)
                view = memoryview(buffer)[: next_range.end - next_range.start]
                self._pending.append(
                    _PendingRange(next_range, buffer, self._pool.submit(self._reader.fill, next_range.start, view))
                )

    def cancel(self) -> None:
        self._todo.clear()
        for pending in self._pending:
            pending.done.cancel()
