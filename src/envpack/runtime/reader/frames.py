"""Prefetching of a bundle's frames, which are read, verified and decompressed on threads.

Memory is limited to a few frames, however large the bundle is.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import Bundle, Located


def frames_of(bundle: Bundle, segments: Iterable[str]) -> dict[str, list[Located]]:
    """Return the frames of some segments, by the segments' ids in the given order."""
    located: dict[str, list[Located]] = {id: [] for id in segments}
    for frame in bundle.frames():
        if frame.segment in located:
            located[frame.segment].append(frame)
    return located


class FramePrefetcher:
    """A prefetcher for frames of some segments; a context manager.

    One thread reads the frames in order, and ``jobs`` more threads verify and decompress them, a little ahead of
    the caller. The caller takes the segments in the given order. It skips a segment that it does not need, whose
    frames are then not read, except those that were loaded already. No other frames are ever read.

    Args:
        bundle: the bundle to read.
        frames: the frames to read of each segment, such as `frames_of` returns, in the order in which the segments
            will be taken or skipped.
        jobs: number of threads that decompress.
    """

    def __init__(self, bundle: Bundle, frames: Mapping[str, Sequence[Located]], jobs: int) -> None:
        bundle.prefetch(frame for located in frames.values() for frame in located)
        self._bundle, self._frames = bundle, frames
        self._todo = (frame for id, located in frames.items() for frame in located if id not in self._done)
        self._done: set[str] = set()
        self._ahead = 2 * jobs
        self._pending: deque[_Pending] = deque()
        self._reader = threads(1, "read")
        self._pool = threads(jobs, "frame")

    def take(self, id: str) -> Iterator[bytes]:
        """Iterate over the frames of a segment, uncompressed.

        Raises:
            IntegrityError: a frame is not what the manifest states.
        """
        for _ in self._frames[id]:
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
