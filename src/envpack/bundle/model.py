"""What passes between reading an environment and writing a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import Piece
from envpack.runtime.format import tar
from envpack.runtime.format.changes import Unrelocatable
from envpack.runtime.format.manifest import Frame, PathRecord
from envpack.runtime.format.paths_json import segment_to_json


@dataclass(frozen=True)
class Item:
    """A path to be stored: its record, still without an offset, and for a file its bytes.

    ``source``: the file that holds just these bytes, where there is one.
    """

    record: PathRecord
    pieces: Sequence[Piece] = ()
    source: str = ""


@dataclass(frozen=True)
class Listed:
    """What a bundle says of one of its segments, the frames aside: ``table``: its part of the paths table;
    ``paths``: how many there are; ``size``: bytes of its files as stored; ``room``: bytes of the longest prefix
    that fits into all of them (None: any), and ``limited_by`` the path that limits it."""

    id: str
    table: bytes
    paths: int
    size: int
    room: int | None = None
    limited_by: str = ""


def listed(id: str, records: Sequence[PathRecord]) -> Listed:
    """What a bundle says of a segment with these records, in the order of the tar stream."""
    rooms = (
        (record.relocation.room, record.path)
        for record in records
        if record.relocation is not None and record.relocation.room is not None
    )
    room, limited_by = min(rooms, default=(None, ""))
    size = sum(record.size for record in records if record.type == "file")
    return Listed(id, segment_to_json(id, records), len(records), size, room, limited_by)


def placed(records: Iterable[PathRecord]) -> Iterator[PathRecord]:
    """The records with the offsets that they have in a segment's tar stream."""
    position = 0
    for record in records:
        position += len(tar.header(record))
        if record.type == "file":
            record = record._replace(offset=position)
            position += record.size + tar.padding(record.size)
        yield record


class Stored(NamedTuple):
    """Frames that lie in a file already: its descriptor, where in it the first begins, and whether they are to
    ``stay`` there."""

    frames: tuple[Frame, ...]
    descriptor: int
    offset: int
    stay: bool


@dataclass
class Found:
    """What only storing the files of a segment shows; see `envpack.runtime.format.changes.Changes`."""

    modified: list[str] = field(default_factory=list)
    unrelocatable: list[Unrelocatable] = field(default_factory=list)
    unsearched: list[str] = field(default_factory=list)
    needs_activation: list[str] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Takes over what was found elsewhere."""
        self.modified += other.modified
        self.unrelocatable += other.unrelocatable
        self.unsearched += other.unsearched
        self.needs_activation += other.needs_activation
        self.changing += other.changing
