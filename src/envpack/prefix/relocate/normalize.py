"""The stored form of each file, and the table of the positions where a deployment writes its prefix.

The published bytes are stored where a digest verifies them, else bytes with a canonical placeholder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from envpack.prefix.model import SOURCE_MTIME, Entry, PrefixContents, Stored
from envpack.prefix.owners.ownership import source_of
from envpack.prefix.relocate.bytecode import Timestamp, is_bytecode, is_cache, timestamp, timestamp_edit
from envpack.prefix.relocate.occurrences import apply, digest, is_text
from envpack.prefix.relocate.placeholder import TEXT, Canonical, canonicalise, canonicalise_bytecode
from envpack.prefix.relocate.residual_mentions import Search
from envpack.prefix.relocate.restore_published import unpatch, without_prefix
from envpack.prefix.scan.windowed_file import Data, Piece, WindowedFile, in_memory
from envpack.runtime.relocation.relocation import Bytecode, Relocation
from envpack.runtime.relocation.splice import Splice

_JOINED = 1 << 20
"""Bytes up to which a result is joined to one piece: cheaper to pass on than many small ones."""


class _Source(NamedTuple):
    """A module's source, for its byte-code.

    Attributes:
        disk: The time and size that valid byte-code on disk records.
        stored: The time and size that stored byte-code has to record.
        relocated: How a deployment changes the source's size; None when it does not.
    """

    disk: Timestamp
    stored: Timestamp
    relocated: Bytecode | None


class FileNormalizer:
    """Stores files of one environment; several threads may call it at once."""

    def __init__(self, prefix: Path, contents: PrefixContents) -> None:
        self._root = f"{prefix}/"
        self._spellings = contents.spellings
        self._hidden = Search(contents.spellings)
        self._sources: dict[str, Entry] = {}
        self._shipped: dict[str, list[Entry]] = {}
        self._compiled: set[str] = set()
        # caches; every value depends on the environment only, so it does not matter which thread sets it
        self._source_facts: dict[str, _Source | None] = {}
        self._pristine_stamps: dict[str, Timestamp | None] = {}
        for group in contents.groups:
            held = {entry.path: entry for entry in group.entries if entry.type == "file"}
            for entry in group.entries:
                if entry.type == "hardlink" and entry.path.endswith(".py"):
                    self._sources[entry.path] = held[entry.target]
                elif entry.type == "file" and entry.path.endswith(".py"):
                    self._sources[entry.path] = entry
                elif entry.path.endswith(".pyc"):
                    self._compiled.add(source_of(entry.path))
                    if entry.published is not None:
                        self._shipped.setdefault(source_of(entry.path), []).append(entry)

    def related(self, entry: Entry) -> tuple[bool, tuple[Entry, ...]]:
        """Return what else decides on the stored bytes of a file.

        Returns:
            Whether there is byte-code of the file, and the other files: the source of byte-code, or the published
            byte-code of a source.
        """
        if entry.path.endswith(".pyc"):
            source = self._sources.get(source_of(entry.path))
            return False, () if source is None else (source,)
        return entry.path in self._compiled, tuple(self._shipped.get(entry.path, ()))

    def normalize(self, entry: Entry, data: Data) -> Stored:
        """Return the stored form of ``entry``, whose bytes in the prefix are ``data``.

        Damaged files raise no error.
        """
        data = data if entry.content is None else entry.content
        if entry.path.endswith(".pyc") and is_bytecode(data[:]):
            return self._store_bytecode(entry, data[:])
        if isinstance(data, WindowedFile):
            data.scan(self._hidden.needles)
        stored = self._store_any(entry, data)
        if entry.path in self._shipped and not stored.modified:
            return stored._replace(mtime=self._shipped_mtime(entry))
        return stored

    def _is_script(self, entry: Entry) -> bool:
        """Return whether the file is run by its first line.

        A module may have such a line too, but its byte-code records its size and line numbers.
        """
        return entry.mode & 0o111 != 0 and entry.path not in self._compiled

    def _store_any(self, entry: Entry, data: Data) -> Stored:
        modified = False
        known = ""
        if entry.published is not None:
            executable = self._is_script(entry)
            if entry.published.placeholder is None:
                known = digest([data])
                if known == entry.published.sha256:
                    return Stored(apply(data, ()), len(data), known)
            else:
                found = unpatch(data, entry.published, self._spellings, executable)
                if found is not None:
                    pieces, size = _pieces(data, found.edits)
                    return Stored(pieces, size, entry.published.sha256, found.relocation)
                if not entry.published.sha256 and digest([data]) == entry.recorded:
                    found = without_prefix(data, entry.published, self._spellings)
                    if found is not None:
                        pieces, size = _pieces(data, found.edits)
                        return Stored(pieces, size, digest(pieces), found.relocation)
            modified = entry.published.sha256 != ""
        if entry.path.endswith(".pyc"):
            # older than PEP 552, or no byte-code at all: lengths in it can't be parsed
            mentioned = any(data.find(spelling) >= 0 for spelling in self._spellings)
            remarks = ("byte-code older than Python 3.7: the build prefix stays",) if mentioned else ()
            return _stored(data, Canonical(remarks=remarks), modified, known)
        # byte-code records its source's size, and `Bytecode` can follow only changes by plain mentions
        needles = () if entry.path.endswith(".py") else self._hidden.encoded
        canonical = canonicalise(data, self._spellings, self._is_script(entry), needles)
        hidden = self._hidden(data, relocated=bool(needles) and is_text(data))
        if hidden.remarks:
            canonical = replace(canonical, remarks=canonical.remarks + hidden.remarks)
        if entry.recorded:
            known = known or digest([data])
            modified = known != entry.recorded
        return _stored(data, canonical, modified, known)._replace(searched=not hidden.cut)

    # --- byte-code and its source ---

    def _store_bytecode(self, entry: Entry, data: bytes) -> Stored:
        stamp, path = timestamp(data), source_of(entry.path)
        if entry.published is not None:
            stored = self._store_any(entry, data)
            pristine = stored.sha256 == entry.published.sha256
            self._pristine_stamps[entry.path] = stamp if pristine else None
            if pristine:
                return self._with_relocated_source(stored, stamp, path)
        source = self._source(path) if stamp is not None else None
        valid = (
            source is not None
            and stamp is not None
            and stamp.size == source.disk.size
            and stamp.mtime in (source.disk.mtime, SOURCE_MTIME)
        )
        renamed = valid and source is not None and source.relocated is None and is_cache(entry.path)
        canonical = canonicalise_bytecode(data, self._spellings, path, renamed)
        if valid and source is not None:
            edits = (*timestamp_edit(data, source.stored), *canonical.edits)
            relocation = canonical.relocation
            if source.relocated is not None:
                relocation = replace(relocation or Relocation(TEXT), bytecode=source.relocated)
            canonical = Canonical(edits, relocation, canonical.remarks)
        return _stored(data, canonical, modified=entry.published is not None and not valid)

    def _with_relocated_source(self, stored: Stored, stamp: Timestamp | None, path: str) -> Stored:
        """Return published byte-code whose size field follows a source that a deployment changes."""
        entry = self._sources.get(path)
        if stamp is None or entry is None or entry.published is None or entry.published.placeholder is None:
            return stored
        source = self._source(path)
        if source is None or source.relocated is None or stamp != source.stored:
            return stored
        relocation = replace(stored.relocation or Relocation(TEXT), bytecode=source.relocated)
        return stored._replace(relocation=relocation)

    def _read(self, entry: Entry) -> bytes:
        with open(entry.place or self._root + entry.path, "rb", buffering=0) as file:
            return file.read()

    def _source(self, path: str) -> _Source | None:
        if path not in self._source_facts:
            self._source_facts[path] = self._read_source(path)
        return self._source_facts[path]

    def _read_source(self, path: str) -> _Source | None:
        entry = self._sources.get(path)
        if entry is None:
            return None
        data = self._read(entry)
        disk = Timestamp(entry.mtime & 0xFFFFFFFF, len(data) & 0xFFFFFFFF)
        placeholder = entry.published.placeholder if entry.published is not None else None
        mentioned = any(spelling in data for spelling in self._spellings)
        if entry.path not in self._shipped and placeholder is None and not mentioned:
            return _Source(disk, Timestamp(SOURCE_MTIME, disk.size), None)
        stored = self._store_any(entry, data)
        mtime = SOURCE_MTIME if stored.modified else self._shipped_mtime(entry)
        where = stored.relocation
        relocated = Bytecode(stored.size, len(where.text), len(where.placeholder)) if where else None
        return _Source(disk, Timestamp(mtime, stored.size & 0xFFFFFFFF), relocated)

    def _shipped_mtime(self, entry: Entry) -> int:
        """Return the source's time as byte-code in its package records it; SOURCE_MTIME without such byte-code."""
        for bytecode in self._shipped.get(entry.path, ()):
            if bytecode.path not in self._pristine_stamps:
                data = self._read(bytecode)
                known = bytecode.published is not None and digest([data]) == bytecode.published.sha256
                stamp = timestamp(data) if known and is_bytecode(data) else None
                self._pristine_stamps[bytecode.path] = stamp
            stamp = self._pristine_stamps[bytecode.path]
            size = entry.published.size if entry.published is not None else None
            if stamp is not None and stamp.size == (entry.size if size is None else size):
                return stamp.mtime
        return SOURCE_MTIME


def _pieces(data: Data, edits: Sequence[Splice]) -> tuple[Sequence[Piece], int]:
    pieces = apply(data, edits)
    size = sum(len(piece) for piece in pieces)
    return ([b"".join(in_memory(pieces))] if len(pieces) > 1 and size <= _JOINED else pieces), size


def _stored(data: Data, canonical: Canonical, modified: bool, known: str = "") -> Stored:
    """Return the stored form; ``known`` is the digest of ``data``, "" when it is not computed yet."""
    pieces, size = _pieces(data, canonical.edits)
    sha256 = known if known and not canonical.edits else digest(pieces)
    return Stored(pieces, size, sha256, canonical.relocation, modified=modified, unrelocatable=canonical.remarks)
