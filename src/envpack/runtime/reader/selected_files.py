"""The bytes of some files of a bundle, from the frames that hold them; no other frame is read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import AbstractSet, Iterable, Iterator, Sequence, Tuple

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.reader.bundle import Bundle, Located
from envpack.runtime.reader.frames import FramePrefetcher, frames_of


def read_files(
    bundle: Bundle, table: PathsTable, paths: AbstractSet[str], jobs: int
) -> Iterator[tuple[str, bytes]]:
    """Iterate over the stored bytes of some files, by path, in the order of the bundle.

    Args:
        bundle: the bundle.
        table: its paths table.
        paths: the files to read; what is no file is left out.
        jobs: the number of threads that decompress.

    Raises:
        IntegrityError: the bundle is damaged.
    """
    located = frames_of(bundle, table.segments)
    needed = {id: frames_holding(located[id], records, paths) for id, records in table.segments.items()}
    frames = {id: [frame for _, frame in each] for id, each in needed.items()}
    with FramePrefetcher(bundle, frames, jobs) as prefetcher:
        for id, records in table.segments.items():
            contents = FrameContents(needed[id], prefetcher.take(id))
            for record in records:
                if record.type == "file" and record.path in paths:
                    yield record.path, b"".join(contents.take(record))


PlacedFrame = Tuple[int, Located]
"""A frame, and the offset of its first byte in its segment."""


def frames_holding(
    frames: Sequence[Located], records: Iterable[PathRecord], paths: AbstractSet[str]
) -> list[PlacedFrame]:
    """Return the frames of a segment that hold one of some files."""
    starts = [0, *accumulate(each.frame.size for each in frames)]
    needed: set[int] = set()
    for record in records:
        if record.type == "file" and record.size and record.path in paths:
            first = bisect_right(starts, record.offset) - 1
            needed.update(range(first, bisect_left(starts, record.offset + record.size)))
    return [(starts[index], frame) for index, frame in enumerate(frames) if index in needed]


class FrameContents:
    """The bytes of a segment's files, taken by ascending offset from the frames that hold them."""

    def __init__(self, frames: list[PlacedFrame], chunks: Iterator[bytes]) -> None:
        self._frames = zip(frames, chunks)
        self._start, self._data = 0, memoryview(b"")

    def take(self, record: PathRecord) -> Iterator[memoryview]:
        """Iterate over the bytes of a file, in pieces; raise IntegrityError when it is not in these frames."""
        offset, end = record.offset, record.offset + record.size
        while offset < end:
            while offset >= self._start + len(self._data):
                self._next(record)
            piece = self._data[offset - self._start : end - self._start]
            yield piece
            offset += len(piece)

    def _next(self, record: PathRecord) -> None:
        found = next(self._frames, None)
        if found is None:
            raise IntegrityError(f"{record.path!r} is outside its segment")
        (self._start, _), data = found
        self._data = memoryview(data)
