"""The values that describe an environment: entries, the groups they belong to, and the stored form of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import FileChunk
from envpack.runtime.format.manifest import Package
from envpack.runtime.relocation.relocation import Relocation

ENVIRONMENT = "environment"
"""The id of the group of everything that no package owns."""

SOURCE_MTIME = 315532800
"""The time that every file is stored with, in seconds since 1970: 1980-01-01, the earliest that a zip can hold.
Only sources whose package ships byte-code keep the time that this byte-code records, and own files their own."""


@dataclass(frozen=True, slots=True)
class Published:
    """A file as its conda package published it, before it was installed; read from the package's paths.json.

    Attributes:
        sha256: Hex digest of the published file; "" for binaries of packages without paths.json.
        size: Size of the published file in bytes; None when it is not recorded.
        placeholder: The prefix that installers replace in the file; None when there is none.
        file_mode: How installers replace it: "text" (as text) or "binary" (as C strings).
    """

    sha256: str
    size: int | None = None
    placeholder: bytes | None = None
    file_mode: str = ""


class Entry(NamedTuple):
    """One path of the environment. ``path`` and ``target`` carry bytes that are not UTF-8 as PEP 383 does.

    Attributes:
        path: Relative to the prefix.
        type: "file", "hardlink", "symlink" or "directory" (only empty ones).
        mode: Permission bits, normalised.
        size: Size in bytes, on disk or of ``content``.
        mtime: Modification time on disk, in whole seconds since 1970.
        target: Of a hardlink, the path of the same group that holds the data. Of a symlink, its target; links to
            targets in the prefix are relative, and the target need not exist.
        published: The file as its conda package published it.
        recorded: sha256 of the file as its installer wrote it; "" when unknown.
        content: Bytes that replace those of the file; None to use the file's own.
        place: The location of the file's bytes, when they are not at ``path``.
        stamp: Time of the last change to the bytes, and to the status, in nanoseconds since 1970, and the inode.
    """

    path: str
    type: str
    mode: int = 0o644
    size: int = 0
    mtime: int = 0
    target: str = ""
    published: Published | None = None
    recorded: str = ""
    content: bytes | None = None
    place: str = ""
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True)
class Group:
    """The entries that one package owns, sorted by the bytes of the path; there may be none (metapackages)."""

    id: str
    package: Package | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class PrefixContents:
    """An environment that was read for packing.

    Attributes:
        prefix: The environment's real path.
        aliases: Every path, as bytes, under which files may mention the prefix, the real one first.
        groups: Conda packages, pip distributions, then ENVIRONMENT, each kind sorted by id; then own files.
        missing: Paths that packages installed and that no longer exist.
        foreign: Paths that no package owns.
        replaced: Paths of a conda package that something else overwrote. (Modified files are found later,
            when they are stored.)
        left_out: Paths of editable installs that are not packed.
        outside: Links that lead out of the environment and are packed unchanged.
        python: Path of the interpreter, such as "bin/python3.11"; "" when there is none.
        python_version: Version of the interpreter, such as "3.11.7"; "" when there is none.
        newest: Build time of the newest conda package, in seconds since 1970.
    """

    prefix: Path
    aliases: tuple[bytes, ...]
    groups: tuple[Group, ...]
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    python: str = ""
    python_version: str = ""
    newest: int = SOURCE_MTIME


Answer = bool | list[str]


class Stored(NamedTuple):
    """A file as it is stored.

    Pieces may be views of the data that was passed in, which must live as long as they do.

    Attributes:
        pieces: The stored bytes, in order.
        size: Size of the joined pieces in bytes.
        sha256: Hex digest of the joined pieces.
        relocation: Positions where a deployment writes its prefix.
        mtime: Stored modification time, in seconds since 1970.
        modified: Whether the file differs from the one that its package installed.
        unrelocatable: Remarks on mentions of the prefix that stay unchanged.
        searched: False when the file holds so much compressed data that not all of it was searched.
        sources: Sources and headers of the environment that a binary names.
        asked: Questions about other files that this depends on, with the answers; `FileNormalizer.holds` asks them
            again.
    """

    pieces: Sequence[FileChunk]
    size: int
    sha256: str
    relocation: Relocation | None = None
    mtime: int = SOURCE_MTIME
    modified: bool = False
    unrelocatable: tuple[str, ...] = ()
    searched: bool = True
    sources: tuple[str, ...] = ()
    asked: Mapping[str, Answer] = {}
