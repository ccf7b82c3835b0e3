"""What an environment holds, in values: entries, the groups they belong to, and what is stored of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import Piece
from envpack.runtime.format.manifest import Package
from envpack.runtime.relocation.relocation import Relocation

ENVIRONMENT = "environment"
"""The id of the group of everything that no package owns."""

SOURCE_MTIME = 315532800
"""The time every file is stored with, seconds since 1970: 1980-01-01, the earliest a zip can say. Only
sources whose package ships byte-code keep the time that byte-code records."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a conda package's paths.json says of a file: the bytes it had before it was installed.

    ``sha256`` in hex and ``size`` in bytes (None: not recorded) are of the published file; ``placeholder``
    is the prefix that installers replace in it, as text or as C strings by ``file_mode`` "text" or "binary".
    ``sha256`` is "" for binaries of packages without paths.json.
    """

    sha256: str
    size: int | None = None
    placeholder: bytes | None = None
    file_mode: str = ""


class Entry(NamedTuple):
    """One path of the environment. ``path`` and ``target`` carry bytes that are not UTF-8 as PEP 383 does.

    ``type``: "file", "hardlink" (``target``: the path of the same group that holds the data), "symlink"
    (``target``: relative, and inside the prefix, but it need not exist) or "directory" (only empty ones).
    ``mode``: permission bits, normalised. ``size`` in bytes and ``mtime`` in whole seconds are those on disk.
    ``recorded``: sha256 of the file as its installer wrote it, "" when unknown. ``content`` stands in for the
    file's bytes; ``place``: where they lie when that is not at ``path``. ``stamp``: time of the last change to
    the bytes, and to the status, in nanoseconds, and the inode.
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
    """Everything one package owns, sorted by the bytes of the path; it may be empty (metapackages)."""

    id: str
    package: Package | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class PrefixContents:
    """An environment read for packing. ``prefix`` is its real path.

    ``spellings``: every path, as bytes, under which files may mention the prefix, the real one first.
    ``groups``: conda packages, pip distributions, then ENVIRONMENT, each kind sorted by id. ``missing``:
    paths that packages installed and that are gone; ``foreign``: those no package owns; ``replaced``: those
    of a conda package that something else wrote over (``modified`` ones are found while storing);
    ``left_out``: those of editable installs that are not packed; ``outside``: links that lead out and are kept.
    ``python``: path of the interpreter, such as "bin/python3.11", and ``python_version``, such as "3.11.7";
    "" when there is none. ``newest``: when the newest conda package was made, seconds since 1970.
    """

    prefix: Path
    spellings: tuple[bytes, ...]
    groups: tuple[Group, ...]
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    python: str = ""
    python_version: str = ""
    newest: int = SOURCE_MTIME


class Stored(NamedTuple):
    """A file as it is stored: ``pieces`` joined have ``size`` bytes and the hex digest ``sha256``.

    Pieces may be views of the data that was given, which must live as long as they do. ``mtime`` in seconds.
    ``modified``: the file is not what its package installed. ``unrelocatable``: remarks on mentions of the
    prefix that stay as they are; ``searched``: False when so much is compressed that not all was searched.
    """

    pieces: Sequence[Piece]
    size: int
    sha256: str
    relocation: Relocation | None = None
    mtime: int = SOURCE_MTIME
    modified: bool = False
    unrelocatable: tuple[str, ...] = ()
    searched: bool = True
