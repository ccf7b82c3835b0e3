"""Data that passes between the reading of an environment and the writing of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from envpack.prefix.model import Answer
from envpack.prefix.scan.windowed_file import FileChunk
from envpack.runtime.format import tar
from envpack.runtime.format.changes import Unrelocatable
from envpack.runtime.format.manifest import Frame, PathRecord
from envpack.runtime.format.paths_json import segment_to_json

PROMISED_ROOM = 200
"""Bytes of the longest destination path for which envpack promises that its own bundles have room."""


@dataclass(frozen=True)
class Item:
    """A path to be stored.

    Attributes:
        record: Its record in the paths table, without an offset.
        pieces: Bytes of a file.
        source: Path of the file that holds exactly these bytes; "" where there is none.
    """

    record: PathRecord
    pieces: Sequence[FileChunk] = ()
    source: str = ""


@dataclass(frozen=True)
class SegmentIndex:
    """The entry of a segment in the manifest and the paths table, without its frames.

    Attributes:
        id: Id of the segment.
        table: Its part of the paths table, as JSON.
        paths: Number of its paths.
        size: Bytes of its files, as stored.
        max_prefix_length: Bytes of the longest prefix that fits into all of its files; None: any prefix.
        limited_by: Path of the file that limits it, or "".
    """

    id: str
    table: bytes
    paths: int
    size: int
    max_prefix_length: int | None = None
    limited_by: str = ""


def segment_index(id: str, records: Sequence[PathRecord]) -> SegmentIndex:
    """Return the entry of a segment with these records, which are in the order of the tar stream."""
    limits = (
        (record.relocation.max_prefix_length, record.path)
        for record in records
        if record.relocation is not None and record.relocation.max_prefix_length is not None
    )
    longest, limited_by = min(limits, default=(None, ""))
    size = sum(record.size for record in records if record.type == "file")
    return SegmentIndex(id, segment_to_json(id, records), len(records), size, longest, limited_by)


def with_offsets(records: Iterable[PathRecord]) -> Iterator[PathRecord]:
    """Yield the records with their offsets in the tar stream of the segment."""
    position = 0
    for record in records:
        position += len(tar.header(record))
        if record.type == "file":
            record = record._replace(offset=position)
            position += record.size + tar.padding(record.size)
        yield record


class StoredFrames(NamedTuple):
    """Frames of a segment that are in a file already.

    Attributes:
        frames: The frames, in order.
        descriptor: Descriptor of the file.
        offset: Offset of the first frame in the file, in bytes.
        stay: Whether the file keeps these bytes; otherwise they may be moved out of it.
    """

    frames: tuple[Frame, ...]
    descriptor: int
    offset: int
    stay: bool


class Limit(NamedTuple):
    """A file that limits how long the path of a deployment may be.

    Attributes:
        path: Path of the file.
        room: Bytes of the longest prefix that fits.
        string: The first string in it that has no room for more, with the environment's path, cut if it is long.
    """

    path: str
    room: int
    string: str


@dataclass
class PackFindings:
    """Findings about files that show only when they are stored.

    See `envpack.runtime.format.changes.Changes`.

    Attributes:
        modified: Files that are not as their package published them.
        unrelocatable: Mentions of the prefix that can't be relocated.
        unsearched: Files that were searched for the prefix only in part.
        needs_activation: Scripts that may run in the activated environment only.
        limits: Files with less room for a prefix than `PROMISED_ROOM`.
        sources: Binaries that name sources or headers of the environment.
        changing: Files that changed while the environment was packed.
        asked: Questions about other files that the stored bytes depend on, with the answers.
    """

    modified: list[str] = field(default_factory=list)
    unrelocatable: list[Unrelocatable] = field(default_factory=list)
    unsearched: list[str] = field(default_factory=list)
    needs_activation: list[str] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)
    asked: dict[str, Answer] = field(default_factory=dict)

    def add(self, other: PackFindings) -> None:
        """Append the findings of another segment."""
        self.modified += other.modified
        self.unrelocatable += other.unrelocatable
        self.unsearched += other.unsearched
        self.needs_activation += other.needs_activation
        self.limits += other.limits
        self.sources += other.sources
        self.changing += other.changing


class PackedSegment(NamedTuple):
    """A segment with frames that are in a file already.

    Attributes:
        listing: Its entry in the manifest and the paths table.
        stored: Its frames.
        found: The findings about its files.
    """

    listing: SegmentIndex
    stored: StoredFrames
    found: PackFindings


class WrittenSegment(NamedTuple):
    """A segment of a finished bundle.

    Attributes:
        listing: Its entry in the manifest and the paths table.
        frames: Its frames, in order.
        offset: Offset of the first frame in the bundle, in bytes.
    """

    listing: SegmentIndex
    frames: tuple[Frame, ...]
    offset: int
