"""Python sources and their byte-code: which belong together, and what byte-code records of its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from envpack.prefix.model import SOURCE_MTIME, Entry, Group, Stored
from envpack.prefix.owners.ownership import source_of
from envpack.prefix.relocate.bytecode import Timestamp, is_bytecode, timestamp
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.fs.io import read_file
from envpack.runtime.relocation.relocation import Bytecode


@dataclass(frozen=True)
class SourceIndex:
    """The Python sources and the byte-code of an environment.

    Attributes:
        sources: Entry with the bytes of each source, by path.
        shipped: Byte-code that the source's conda package published, by path of the source.
        compiled: Paths of sources, present or not, that have byte-code.
    """

    sources: Mapping[str, Entry]
    shipped: Mapping[str, Sequence[Entry]]
    compiled: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[Group]) -> SourceIndex:
        """Return the index of these groups."""
        sources: dict[str, Entry] = {}
        shipped: dict[str, list[Entry]] = {}
        compiled: set[str] = set()
        for group in groups:
            held = {entry.path: entry for entry in group.entries if entry.type == "file"}
            for entry in group.entries:
                if entry.path.endswith(".py") and entry.type in ("file", "hardlink"):
                    sources[entry.path] = held[entry.target] if entry.type == "hardlink" else entry
                elif entry.path.endswith(".pyc"):
                    source = source_of(entry.path)
                    compiled.add(source)
                    if entry.published is not None:
                        shipped.setdefault(source, []).append(entry)
        return cls(sources, shipped, frozenset(compiled))

    def related(self, entry: Entry) -> tuple[bool, tuple[Entry, ...]]:
        """Return what else decides on the stored bytes of a file.

        Returns:
            Whether there is byte-code of the file, and the other files: the source of byte-code, or the published
            byte-code of a source.
        """
        if entry.path.endswith(".pyc"):
            source = self.sources.get(source_of(entry.path))
            return False, () if source is None else (source,)
        return entry.path in self.compiled, tuple(self.shipped.get(entry.path, ()))


class Source(NamedTuple):
    """A module's source, for its byte-code.

    Attributes:
        disk: The time and size that valid byte-code on disk records.
        stored: The time and size that stored byte-code has to record.
        relocated: How a deployment changes the source's size; None when it does not.
    """

    disk: Timestamp
    stored: Timestamp
    relocated: Bytecode | None


class SourceReader:
    """Reads what byte-code and its source record of each other.

    Each fact follows from the files alone, and is kept only to read no file twice: it does not matter which of
    several threads, or which file of a pair, asks first.

    Args:
        root: The environment's path, with a slash at the end.
        aliases: All paths of the prefix.
        index: The sources and the byte-code of the environment.
        store: Returns the stored form of a file, as far as it follows from its own bytes.
    """

    def __init__(
        self, root: str, aliases: Sequence[bytes], index: SourceIndex, store: Callable[[Entry, FileData], Stored]
    ) -> None:
        self._root, self._aliases, self._index, self._store = root, aliases, index, store
        self._sources: dict[str, Source | None] = {}
        self._stamps: dict[str, Timestamp | None] = {}

    def source(self, path: str) -> Source | None:
        """Return the source at ``path``; None where there is none."""
        if path not in self._sources:
            entry = self._index.sources.get(path)
            self._sources[path] = self._read_source(entry) if entry is not None else None
        return self._sources[path]

    def _read_source(self, entry: Entry) -> Source:
        data = self._read(entry)
        disk = Timestamp(entry.mtime & 0xFFFFFFFF, len(data) & 0xFFFFFFFF)
        placeholder = entry.published.placeholder if entry.published is not None else None
        if entry.path not in self._index.shipped and placeholder is None and not _mentions(data, self._aliases):
            return Source(disk, Timestamp(SOURCE_MTIME, disk.size), None)
        stored = self._store(entry, data)
        mtime = SOURCE_MTIME if stored.modified else self.shipped_mtime(entry)
        where = stored.relocation
        relocated = Bytecode(stored.size, len(where.text), len(where.placeholder)) if where else None
        return Source(disk, Timestamp(mtime, stored.size & 0xFFFFFFFF), relocated)

    def shipped_mtime(self, entry: Entry) -> int:
        """Return the source's time as byte-code in its package records it; SOURCE_MTIME without such byte-code."""
        published = entry.published.size if entry.published is not None else None
        size = entry.size if published is None else published
        for bytecode in self._index.shipped.get(entry.path, ()):
            if bytecode.path not in self._stamps:
                self.published_bytecode(bytecode, self._read(bytecode))
            stamp = self._stamps[bytecode.path]
            if stamp is not None and stamp.size == size:
                return stamp.mtime
        return SOURCE_MTIME

    def published_bytecode(self, entry: Entry, data: bytes) -> Stored | None:
        """Return the stored form of byte-code of a package if it is as published, else None."""
        stored = self._store(entry, data)
        pristine = entry.published is not None and stored.sha256 == entry.published.sha256
        self._stamps[entry.path] = timestamp(data) if pristine and is_bytecode(data) else None
        return stored if pristine else None

    def _read(self, entry: Entry) -> bytes:
        return read_file(entry.place or self._root + entry.path)


def _mentions(data: bytes, aliases: Sequence[bytes]) -> bool:
    return any(alias in data for alias in aliases)
