"""What a bundle says of itself, in values: the manifest and the paths table.

``bundle/FORMAT.md`` is the written truth; ``envpack.runtime.format.manifest_json`` reads and writes the JSON of
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple

from envpack.runtime.format.changes import Changes
from envpack.runtime.format.needs import Needs
from envpack.runtime.relocation.relocation import Relocation

FORMAT = 1
"""The newest bundle format this version reads, and the one it writes."""


EPOCH = 315532800
"""Modification time of every stored file, 1980-01-01T00:00:00Z, the oldest that zip can hold too; only a
source whose published pyc records another time keeps that one."""


@dataclass(frozen=True)
class Frame:
    """One independently compressed piece: ``stored`` bytes in the file, ``sha256``; ``size`` unpacked."""

    stored: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """The frames of one package's tar entries; ``id`` is unique, e.g. ``conda:numpy-2.1.0-py311_0``."""

    id: str
    frames: tuple[Frame, ...]

    @property
    def size(self) -> int:
        return sum(frame.size for frame in self.frames)

    @property
    def stored(self) -> int:
        return sum(frame.stored for frame in self.frames)


@dataclass(frozen=True)
class Package:
    """A package in the environment: ``kind`` "conda" or "pypi", ``size`` in bytes as installed."""

    kind: str
    name: str
    version: str
    build: str = ""
    subdir: str = ""
    channel: str = ""
    url: str = ""
    sha256: str = ""
    license: str = ""
    size: int = 0
    files: int = 0
    segment: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a bundle is and holds; small enough to read without the rest of the file.

    ``created``: seconds since 1970, from SOURCE_DATE_EPOCH or the newest package, never from the clock;
    ``size``: bytes of all files as stored; ``longest_prefix``: bytes of the longest destination that can be
    written in (None: any), and ``limited_by`` the path that limits it; ``paths_size`` and
    ``paths_sha256``: of the paths table's JSON; ``head``: the frames that hold it.
    """

    name: str
    version: str
    subdir: str
    created: int
    writer: str
    codec: str
    size: int
    files: int
    paths_size: int
    paths_sha256: str
    head: tuple[Frame, ...]
    segments: tuple[Segment, ...]
    packages: tuple[Package, ...] = ()
    python: str = ""
    longest_prefix: int | None = None
    limited_by: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    variables: Mapping[str, str] = field(default_factory=dict)
    test: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    format: int = FORMAT


class PathRecord(NamedTuple):
    """One path of the environment, as stored. A tuple, as there are many of them.

    ``type``: "file", "hardlink", "symlink" or "directory"; ``target``: of a link (of a hard link, a path in
    the same segment that comes before). For files: ``size`` and ``sha256`` of the stored bytes, ``offset`` of
    those bytes in the segment's uncompressed tar stream, ``mtime`` in seconds. ``mode``: permission bits.
    """

    path: str
    type: str
    mode: int = 0o644
    size: int = 0
    sha256: str = ""
    offset: int = 0
    mtime: int = EPOCH
    target: str = ""
    relocation: Relocation | None = None


@dataclass(frozen=True)
class PathsTable:
    """Every path of a bundle, by segment id, in the order of the tar stream.

    ``digests``: the sha256 of what a table that was read says of each segment, its id apart.
    """

    segments: Mapping[str, tuple[PathRecord, ...]]
    digests: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Any:
        for records in self.segments.values():
            yield from records
