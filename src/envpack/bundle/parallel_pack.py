"""Packing of packages by worker processes, each of which writes to its own temporary file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FrameWriter
from envpack.bundle.model import PackedSegment, PackFindings, SegmentIndex, StoredFrames
from envpack.bundle.segment_items import segment_items
from envpack.bundle.writer import write_segment
from envpack.prefix.model import Group
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.format.manifest import Frame
from envpack.runtime.fs.temporary import unnamed_file
from envpack.runtime.parallel.processes import MAX_UNITS, Advance, ProcessPool, can_fork
from envpack.runtime.parallel.threads import pool as threads

UNIT = 16 << 20
"""Minimum bytes of files that a process packs before it waits for its last frames and takes the next unit."""

WORTH = 64 << 20
"""Minimum bytes of files for which starting processes saves time."""

_MOST_THREADS = 4
"""Maximum number of threads that compress in one process: each has two frames in memory."""


class _Packed(NamedTuple):
    """A segment that the process of number ``worker`` has packed: in its file, from ``offset`` (bytes) on."""

    listing: SegmentIndex
    frames: tuple[Frame, ...]
    worker: int
    offset: int
    found: PackFindings


class ParallelPacker:
    """A pool of processes that pack groups of packages for a bundle; a context manager.

    The processes start on entry, and their files, which have no name, disappear on exit. Where processes are not
    possible, or the files too small for them to save time, no group is packed here.

    Args:
        groups: Groups of the environment to pack.
        prefix: Directory of the environment.
        normalizer: FileNormalizer of its files.
        encoder: Compressor of the frames.
        folder: Directory on a disk with space for the temporary files.
        jobs: Number of processes.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        prefix: Path,
        normalizer: FileNormalizer,
        encoder: Encoder,
        folder: Path,
        jobs: int,
    ) -> None:
        self._prefix, self._normalizer, self._encoder = prefix, normalizer, encoder
        self._folder, self._jobs = folder, jobs
        self._units = _units(groups) if jobs > 1 and sum(map(_size, groups)) >= WORTH else []
        self._ids = {group.id for group in groups}
        self._packed: dict[str, _Packed] = {}
        self._held = ExitStack()
        self._writer: FrameWriter | None = None
        self._results: Iterator[list[_Packed]] | None = None

    def __enter__(self) -> ParallelPacker:
        if len(self._units) > 1 and can_fork():
            with suppress(OSError), ExitStack() as stack:
                self._files = [stack.enter_context(unnamed_file(self._folder)) for _ in range(self._jobs)]
                self._pool = stack.enter_context(ProcessPool(self._jobs, len(self._units), self._pack))
                self._held = stack.pop_all()
                return self
        self._ids = set()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def take(self, id: str, advance: Advance) -> PackedSegment | None:
        """Wait for a segment and return it. Errors raised in the process pass through.

        Args:
            id: Id of the segment.
            advance: Receives the bytes of all files packed meanwhile.

        Returns:
            The segment, or None for one that is not packed by this pool.
        """
        if id not in self._ids:
            return None
        if self._results is None:
            self._results = self._pool.results(advance)
        while id not in self._packed:
            self._packed.update((packed.listing.id, packed) for packed in next(self._results))
        packed = self._packed.pop(id)
        stored = StoredFrames(packed.frames, self._files[packed.worker].fileno(), packed.offset, stay=False)
        return PackedSegment(packed.listing, stored, packed.found)

    def _pack(self, worker: int, unit: int, advance: Advance) -> list[_Packed]:
        """Pack one unit, in one of the processes."""
        file = self._files[worker]
        if self._writer is None:
            count = max(1, min(_MOST_THREADS, self._jobs // 2))
            self._writer = FrameWriter(file, self._encoder, threads(count, "compress"), 2 * count)
        writer = self._writer
        offset = file.tell()
        written = []
        for group in self._units[unit]:
            found = PackFindings()
            items = segment_items(group, self._prefix, self._normalizer, found, advance)
            written.append((*write_segment(writer, group.id, items), found))
        writer.drain()
        packed = []
        for index, frames, found in written:
            packed.append(_Packed(index, tuple(frames), worker, offset, found))
            offset += sum(frame.stored for frame in frames)
        return packed


def _size(group: Group) -> int:
    return sum(entry.size for entry in group.entries)


def _units(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups in units of several small packages, the largest unit first.

    In this order, no large unit is started when the others are almost done.
    """
    least = max(UNIT, sum(map(_size, groups)) // (MAX_UNITS - 1))
    units: list[list[Group]] = []
    sizes: list[int] = []
    for group in groups:
        if not units or sizes[-1] >= least:
            units.append([])
            sizes.append(0)
        units[-1].append(group)
        sizes[-1] += _size(group)
    return [unit for _, unit in sorted(zip(sizes, units, strict=True), key=lambda each: -each[0])]
