"""A bundle's segments as streams: frames read ahead on threads, and the entries that the paths table gives.

Memory stays at a few frames however large the bundle is.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Callable, Iterable, Iterator, NamedTuple, Sequence

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format import tar
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader import END_SEGMENT, Bundle, Located


class Frames:
    """The frames of some segments: read in order on a thread of their own, verified and decompressed on ``jobs``
    more, a little ahead of who takes them.

    Segments are taken in the order given; one that turns out not to be needed is skipped, and what is not loaded
    yet of it is not read. Frames of other segments are never read.
    """

    def __init__(self, bundle: Bundle, segments: Sequence[str], jobs: int) -> None:
        located: dict[str, list[Located]] = {id: [] for id in segments}
        for frame in bundle.frames():
            if frame.segment in located:
                located[frame.segment].append(frame)
        bundle.expect(frame for id in segments for frame in located[id])
        self._bundle, self._located = bundle, located
        self._todo = (frame for id in segments for frame in located[id] if id not in self._done)
        self._done: set[str] = set()
        self._ahead = 2 * jobs
        self._pending: deque[_Pending] = deque()
        self._reader = threads(1, "read")
        self._pool = threads(jobs, "frame")

    def take(self, id: str) -> Iterator[bytes]:
        """The uncompressed frames of a segment."""
        for _ in self._located[id]:
            self._fill()
            yield self._pending.popleft().unpacked.result()

    def skip(self, id: str) -> None:
        """Gives up a segment of which nothing was taken."""
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

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for pending in self._pending:
            pending.cancel()
        try:
            if kind is not None:
                self._bundle.stop()
            self._reader.shutdown()
            self._pool.shutdown()
        except BaseException:  # interrupted while a pipe says nothing
            self._bundle.stop()
            raise


class _Pending(NamedTuple):
    """A frame on its way."""

    segment: str
    stored: Future[bytes]
    unpacked: Future[bytes]

    def cancel(self) -> None:
        self.unpacked.cancel()
        self.stored.cancel()


_NULS = bytes(tar.BLOCK)


class SegmentStream:
    """A segment's uncompressed bytes from ``start`` on, taken off the front piece by piece without copying."""

    def __init__(
        self, chunks: Iterator[bytes | memoryview], id: str, advance: Callable[[int], None], start: int = 0
    ) -> None:
        self._chunks, self._id, self._advance = chunks, id, advance
        self._view = memoryview(b"")
        self.position = start

    def take(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes; IntegrityError when the segment ends before."""
        while size:
            if not self._view:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise IntegrityError(f"segment {self._id} ends before its last file does")
                self._view = memoryview(chunk)
                self._advance(len(chunk))
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def take_whole(self, header: bytes, record: PathRecord) -> memoryview | None:
        """A file's entry at once, where all of it is in memory already: its data, from between the header and the
        padding. None, and nothing taken, where it is not, or not as the record has it."""
        start, end = len(header), len(header) + record.size
        behind = end + tar.padding(record.size)
        view = self._view
        if len(view) < behind or self.position + start != record.offset:
            return None
        if view[:start] != header or view[end:behind] != _NULS[: behind - end]:
            return None
        self._view = view[behind:]
        self.position += behind
        return view[start:end]

    def expect(self, expected: bytes, what: str) -> None:
        """Takes these bytes; IntegrityError when others come."""
        if b"".join(self.take(len(expected))) != expected:
            raise IntegrityError(f"segment {self._id}: {what} is not as the paths table has it")

    def finish(self) -> None:
        """IntegrityError when there is more."""
        if self._view or next(self._chunks, None) is not None:
            raise IntegrityError(f"segment {self._id} has more in it than the paths table")


def entries(
    chunks: Iterator[bytes | memoryview],
    id: str,
    records: Iterable[PathRecord],
    advance: Callable[[int], None],
    start: int = 0,
) -> Iterator[tuple[PathRecord, Iterator[memoryview]]]:
    """The paths of a segment, each with its data (none for links and folders), which must be taken whole before
    the next one. ``start``: where in the segment the first of ``records`` and ``chunks`` begin.

    ``advance`` is told the bytes of each chunk. Raises IntegrityError when the stream is not what the records
    give, byte for byte.
    """
    stream = SegmentStream(chunks, id, advance, start)
    for record in records:
        header = tar.header(record)
        whole = stream.take_whole(header, record) if record.type == "file" else None
        if whole is not None:
            yield record, iter((whole,))
            continue
        stream.expect(header, f"the header of {record.path!r}")
        if record.type != "file":
            yield record, iter(())
            continue
        if stream.position != record.offset:
            raise IntegrityError(f"{record.path!r} does not begin where the paths table says")
        yield record, stream.take(record.size)
        stream.expect(bytes(tar.padding(record.size)), f"the padding after {record.path!r}")
    if id == END_SEGMENT:
        stream.expect(tar.END, "the end-of-archive marker")
    stream.finish()
