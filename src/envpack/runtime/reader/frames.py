"""Prefetching of a bundle's frames, which are read, verified and decompressed on threads.

Memory is limited to a few frames, however large the bundle is.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Iterator, NamedTuple, Sequence

from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import Bundle, Located


class FramePrefetcher:
    """A prefetcher for the frames of some segments; a context manager.

    One thread reads the frames in order, and ``jobs`` more threads verify and decompress them, a little ahead of
    the caller. The caller takes the segments in the given order. It skips a segment that it does not need, whose
    frames are then not read, except those that were loaded already. Frames of other segments are never read.

    Args:
        bundle: the bundle to read.
        segments: ids of the segments, in the order in which they will be taken or skipped.
        jobs: number of threads that decompress.
    """

    def __init__(self, bundle: Bundle, segments: Sequence[str], jobs: int) -> None:
        located: dict[str, list[Located]] = {id: [] for id in segments}
        for frame in bundle.frames():
            if frame.segment in located:
                located[frame.segment].append(frame)
        bundle.prefetch(frame for id in segments for frame in located[id])
        self._bundle, self._located = bundle, located
        self._todo = (frame for id in segments for frame in located[id] if id not in self._done)
        self._done: set[str] = set()
        self._ahead = 2 * jobs
        self._pending: deque[_Pending] = deque()
        self._reader = threads(1, "read")
        self._pool = threads(jobs, "frame")

    def take(self, id: str) -> Iterator[bytes]:
        """Iterate over the uncompressed frames of a segment.

        Raises:
            IntegrityError: a frame is not what the manifest states.
        """
        for _ in self._located[id]:
            self._fill()
            yield self._pending.popleft().unpacked.result()

    def skip(self, id: str) -> None:
        """Skip a segment of which no frame was taken."""
        self._done.add(id)
        while self._pending and self._pending[0].segment == id:
            self._pending.popleft().cancel()

    def _fill(self) -> None:
        while len(self._pending) <= self._ahead:
            frame = next(self._todo, None)
            if frame is None:
                return
            stored = self._reader.submit(self._bundle.stored, frame)
            unpacked = self._pool.submit(self._unpack, frame, stored)
            self._pending.append(_Pending(frame.segment, stored, unpacked))

    def _unpack(self, frame: Located, stored: Future[bytes]) -> bytes:
        return self._bundle.unpack(frame, stored.result())

    def __enter__(self) -> FramePrefetcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for pending in self._pending:
            pending.cancel()
        try:
            if kind is not None:
                self._bundle.cancel()
            self._reader.shutdown()
            self._pool.shutdown()
        except BaseException:  # interrupted while a read waits for a pipe
            self._bundle.cancel()
            raise


class _Pending(NamedTuple):
    """A frame that is being read or decompressed."""

    segment: str
    stored: Future[bytes]
    unpacked: Future[bytes]

    def cancel(self) -> None:
        self.unpacked.cancel()
        self.stored.cancel()
