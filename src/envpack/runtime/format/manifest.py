"""The manifest and the paths table of a bundle, as values.

``bundle/FORMAT.md`` is the specification; ``envpack.runtime.format.manifest_json`` and
``envpack.runtime.format.paths_json`` read and write the JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from envpack.runtime.format.changes import Changes
from envpack.runtime.format.needs import DetectedNeeds
from envpack.runtime.format.services import Mount, Service

if TYPE_CHECKING:
    from envpack.runtime.relocation.relocation import Relocation

FORMAT = 1
"""Number of the newest bundle format that this version reads, and of the one that it writes."""


EPOCH = 315532800
"""Modification time of stored files in seconds since 1970: 1980-01-01T00:00:00Z, the oldest that zip can hold too.
Only a source with a published pyc that records another time has that time instead, and own files have theirs."""


@dataclass(frozen=True)
class Frame:
    """A piece of the bundle that is compressed independently of the others.

    Attributes:
        stored: its compressed bytes in the file.
        size: its uncompressed bytes.
        sha256: digest of the compressed bytes.
    """

    stored: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """The frames of the tar entries of one package; ``id`` is unique, such as ``conda:numpy-2.1.0-py311_0``."""

    id: str
    frames: tuple[Frame, ...]

    @property
    def size(self) -> int:
        """Uncompressed bytes of all frames."""
        return sum(frame.size for frame in self.frames)

    @property
    def stored(self) -> int:
        """Compressed bytes of all frames."""
        return sum(frame.stored for frame in self.frames)


@dataclass(frozen=True)
class Package:
    """A package in the environment.

    Attributes:
        kind: "conda" or "pypi".
        url: of its archive or repository, without credentials.
        sha256: digest of its archive.
        commit: that of the repository, for a distribution that was built from one.
        size: its bytes as installed.
    """

    kind: str
    name: str
    version: str
    build: str = ""
    subdir: str = ""
    channel: str = ""
    url: str = ""
    sha256: str = ""
    commit: str = ""
    license: str = ""
    size: int = 0
    files: int = 0
    segment: str = ""


@dataclass(frozen=True)
class Manifest:
    """The description of a bundle and its contents, small enough to read without the rest of the file.

    Attributes:
        created: seconds since 1970, from SOURCE_DATE_EPOCH or the newest package, never from the clock.
        writer: program and version that wrote the bundle.
        codec: "gzip" or "zstd".
        size: bytes of all files as stored.
        files: number of paths.
        paths_size: bytes of the paths table's JSON.
        paths_sha256: digest of the paths table's JSON.
        head: the frames that hold the paths table.
        python: path of the environment's interpreter, or empty.
        longest_prefix: bytes of the longest prefix that can be written into the files; None for any length.
        limited_by: the path that limits ``longest_prefix``.
        requires: what a host must have, from the spec: name to expression.
        needs: what the files were found to need of a host.
        test: shell commands to run after a deployment.
        commands: shell commands by name.
        services: how commands are run, for those with more than a shell command, by name.
        mounts: what is known of the paths outside the environment that commands need, by path.
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
    needs: DetectedNeeds = field(default_factory=DetectedNeeds)
    variables: Mapping[str, str] = field(default_factory=dict)
    test: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    format: int = FORMAT


class PathRecord(NamedTuple):
    """The record of one path of the environment, as stored; a tuple because there are many.

    Attributes:
        type: "file", "hardlink", "symlink" or "directory".
        mode: permission bits.
        size: stored bytes of a file.
        sha256: digest of the stored bytes of a file.
        offset: position of the stored bytes of a file in the segment's uncompressed tar stream, in bytes.
        mtime: modification time of a file, in seconds since 1970.
        target: target of a link; of a hard link, an earlier path in the same segment.
        relocation: where a file contains the placeholder; None for a file without.
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
    """The records of all paths of a bundle.

    Attributes:
        segments: the records by segment id, in the order of the tar stream.
        digests: by segment id, the sha256 of the segment's JSON without its id; empty for a table that was not
            read from JSON.
    """

    segments: Mapping[str, tuple[PathRecord, ...]]
    digests: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Any:
        for records in self.segments.values():
            yield from records
