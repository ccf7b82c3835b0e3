"""The partition of a bundle into parts of similar size that can be read independently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

from envpack.runtime.format import tar
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.parallel.processes import MAX_UNITS
from envpack.runtime.reader.bundle import Bundle, Located
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import frames_of

SIZE = 48 << 20
"""Minimum uncompressed bytes of every part except one: a frame that two parts share is decompressed twice."""


@dataclass(frozen=True)
class SegmentSlice:
    """A slice of a segment: consecutive records and the frames that hold their entries.

    Attributes:
        id: id of the segment.
        records: the records, in the order of the segment.
        start: offset of the first byte in the uncompressed segment.
        end: offset after the last byte in the uncompressed segment.
        frames: the frames that hold these bytes.
        first: offset of the first frame in the uncompressed segment.
    """

    id: str
    records: Sequence[PathRecord]
    start: int
    end: int
    frames: Sequence[Located]
    first: int

    def chunks(self, bundle: Bundle) -> Iterator[memoryview]:
        """Iterate over the bytes of the slice, frame by frame; raise IntegrityError for a damaged frame."""
        position = self.first
        for frame in self.frames:
            view = memoryview(bundle.load(frame))
            yield view[max(0, self.start - position) : self.end - position]
            position += len(view)


@dataclass(frozen=True)
class Part:
    """The slices that one worker process writes as one unit of work."""

    slices: Sequence[SegmentSlice]

    @property
    def size(self) -> int:
        """Uncompressed bytes of all slices."""
        return sum(each.end - each.start for each in self.slices)

    def entries(
        self, bundle: Bundle, advance: Callable[[int], None]
    ) -> Iterator[tuple[PathRecord, Iterator[memoryview]]]:
        """Iterate over the entries of all slices, as `envpack.runtime.reader.entries.entries` does."""
        for each in self.slices:
            yield from entries(each.chunks(bundle), each.id, each.records, advance, each.start)


def parts_of(
    bundle: Bundle, table: PathsTable, *, min_size: int | None = None, max_parts: int = MAX_UNITS
) -> list[Part]:
    """Divide the whole bundle into parts.

    The largest come first, so that no large part starts when the others are almost done.

    Args:
        bundle: The bundle.
        table: Its paths table.
        min_size: Minimum uncompressed bytes of every part except one; None for `SIZE`.
        max_parts: Maximum number of parts.
    """
    located = frames_of(bundle, [segment.id for segment in bundle.manifest.segments])
    total = sum(segment.size for segment in bundle.manifest.segments)
    least = max(SIZE if min_size is None else min_size, total // (max_parts - 1))
    parts: list[Part] = []
    pending: list[SegmentSlice] = []
    size = 0
    for segment in bundle.manifest.segments:
        records = table.segments.get(segment.id, ())
        for each in _slices(segment.id, records, segment.size, located[segment.id], least):
            pending.append(each)
            size += each.end - each.start
            if size >= least:
                parts.append(Part(pending))
                pending, size = [], 0
    parts += [Part(pending)] if pending else []
    return sorted(parts, key=lambda part: -part.size)


def _slices(
    id: str, records: Sequence[PathRecord], size: int, frames: Sequence[Located], least: int
) -> Iterator[SegmentSlice]:
    """Cut a segment into slices, before files only: the table has offsets for files alone."""
    first = start = 0
    for index, record in enumerate(records):
        if record.type == "file" and record.offset - start >= least and index > first:
            end = record.offset - len(tar.header(record))
            yield _slice(id, records[first:index], start, end, frames)
            first, start = index, end
    yield _slice(id, records[first:], start, size, frames)


def _slice(
    id: str, records: Sequence[PathRecord], start: int, end: int, frames: Sequence[Located]
) -> SegmentSlice:
    held: list[Located] = []
    first = position = 0
    for located in frames:
        if position + located.frame.size > start and position < end:
            first = first if held else position
            held.append(located)
        position += located.frame.size
    return SegmentSlice(id, records, start, end, held, first)
