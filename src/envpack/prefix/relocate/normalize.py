"""The stored form of each file, and the table of the positions where a deployment writes its prefix.

The published bytes are stored where a digest verifies them, else bytes with a canonical placeholder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envpack.prefix.model import SOURCE_MTIME, Answer, Entry, PrefixContents, Stored
from envpack.prefix.owners.ownership import source_of
from envpack.prefix.relocate.bytecode import Timestamp, is_bytecode, is_cache, timestamp, timestamp_edit
from envpack.prefix.relocate.occurrences import Canonical, apply, digest, is_text
from envpack.prefix.relocate.placeholder import TEXT, canonicalise, canonicalise_bytecode
from envpack.prefix.relocate.residual_mentions import ResidualSearch
from envpack.prefix.relocate.restore_published import Restored, restore_published, without_prefix
from envpack.prefix.relocate.sources import SourceIndex, SourceReader
from envpack.prefix.relocate.surroundings import Place, Surroundings
from envpack.prefix.scan.windowed_file import FileChunk, FileData, WindowedFile, in_memory
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.splice import Splice

_JOINED = 1 << 20
"""Bytes up to which a result is joined to one piece: cheaper to pass on than many small ones."""


class FileNormalizer:
    """Stores files of one environment, each the same in whatever order; several threads may call it at once."""

    def __init__(self, prefix: Path, contents: PrefixContents) -> None:
        self._aliases = contents.aliases
        self._residual = ResidualSearch(contents.aliases)
        self._index = SourceIndex.of(contents.groups)
        self._sources = SourceReader(f"{prefix}/", contents.aliases, self._index, self._store_any)
        self._around = Surroundings(prefix, contents.groups, contents.aliases)
        # a single name, as in /env, is part of other paths by chance
        names = [alias + b"/" for alias in contents.aliases if alias.count(b"/") > 1]
        names += [needle for needle, form in self._residual.encoded if form == "percent"]
        self._in_names = tuple(map(os.fsdecode, names))
        self.related = self._index.related

    def normalize(self, entry: Entry, data: FileData) -> Stored:
        """Return the stored form of ``entry``, whose bytes in the prefix are ``data``.

        Damaged files raise no error.
        """
        data = data if entry.content is None else entry.content
        if entry.path.endswith(".pyc") and is_bytecode(data[:]):
            return self._store_bytecode(entry, data[:])
        if isinstance(data, WindowedFile):
            data.scan(self._residual.probes)
        stored = self._store_any(entry, data)
        if entry.path in self._index.shipped and not stored.modified:
            return stored._replace(mtime=self._sources.shipped_mtime(entry))
        return stored

    def holds(self, asked: Mapping[str, Answer]) -> bool:
        """Return whether the answers to questions about other files are still the same; see `Stored.asked`."""
        return all(self._around.answer(question) == answer for question, answer in asked.items())

    def names_prefix(self, path: str) -> bool:
        """Return whether the name of a file or of a folder above it has the prefix in it, perhaps as in a URL."""
        path = f"/{path}/"
        return any(name in path for name in self._in_names)

    def _is_script(self, entry: Entry) -> bool:
        """Return whether the file is run by its first line.

        A module may have such a line too, but its byte-code records its size and line numbers.
        """
        return entry.mode & 0o111 != 0 and entry.path not in self._index.compiled

    # --- what follows from a file's own bytes ---

    def _store_any(self, entry: Entry, data: FileData) -> Stored:
        published = self._as_published(entry, data)
        if published is not None:
            return published
        modified = entry.published is not None and entry.published.sha256 != ""
        if entry.path.endswith(".pyc"):
            return _stored(data, self._old_bytecode(data), modified)
        # byte-code records its source's size, and `Bytecode` can follow only changes by plain mentions
        needles = () if entry.path.endswith(".py") else self._residual.encoded
        place = Place(entry.path, self._around)
        if self._residual.absent(data):
            canonical, residual = Canonical(), self._residual.compressed(data)
        else:
            canonical = canonicalise(data, self._aliases, self._is_script(entry), needles, place)
            residual = self._residual(data, relocated=bool(needles) and is_text(data))
        if residual.remarks:
            canonical = replace(canonical, remarks=canonical.remarks + residual.remarks)
        known = digest([data]) if entry.recorded else ""
        modified = known != entry.recorded if entry.recorded else modified
        return _stored(data, canonical, modified, known)._replace(searched=not residual.cut, asked=place.asked)

    def _as_published(self, entry: Entry, data: FileData) -> Stored | None:
        """Return the stored form of a file as its conda package published it; None where it is not verified."""
        published = entry.published
        if published is None:
            return None
        if published.placeholder is None:
            same = digest([data]) == published.sha256
            return Stored(apply(data, ()), len(data), published.sha256) if same else None
        restored = restore_published(data, published, self._aliases, self._is_script(entry))
        if restored is not None:
            return _restored(data, restored, published.sha256)
        if not published.sha256 and digest([data]) == entry.recorded:
            restored = without_prefix(data, published, self._aliases)
        return _restored(data, restored) if restored is not None else None

    def _old_bytecode(self, data: FileData) -> Canonical:
        """Return the stored form of a .pyc older than PEP 552, or no byte-code: lengths in it can't be parsed."""
        mentioned = any(data.find(alias) >= 0 for alias in self._aliases)
        return Canonical(remarks=("byte-code older than Python 3.7: the build prefix stays",) if mentioned else ())

    # --- byte-code and its source ---

    def _store_bytecode(self, entry: Entry, data: bytes) -> Stored:
        stamp, path = timestamp(data), source_of(entry.path)
        if entry.published is not None:
            stored = self._sources.published_bytecode(entry, data)
            if stored is not None:
                return self._with_relocated_source(stored, stamp, path)
        source = self._sources.source(path) if stamp is not None else None
        valid = (
            source is not None
            and stamp is not None
            and stamp.size == source.disk.size
            and stamp.mtime in (source.disk.mtime, SOURCE_MTIME)
        )
        place = Place(entry.path, self._around)
        renamed = valid and source is not None and source.relocated is None and is_cache(entry.path)
        canonical = canonicalise_bytecode(data, self._aliases, path, renamed, place)
        if valid and source is not None:
            edits = (*timestamp_edit(data, source.stored), *canonical.edits)
            relocation = canonical.relocation
            if source.relocated is not None:
                relocation = replace(relocation or Relocation(TEXT), bytecode=source.relocated)
            canonical = replace(canonical, edits=edits, relocation=relocation)
        stored = _stored(data, canonical, modified=entry.published is not None and not valid)
        return stored._replace(asked=place.asked)

    def _with_relocated_source(self, stored: Stored, stamp: Timestamp | None, path: str) -> Stored:
        """Return published byte-code whose size field follows a source that a deployment changes."""
        entry = self._index.sources.get(path)
        if stamp is None or entry is None or entry.published is None or entry.published.placeholder is None:
            return stored
        source = self._sources.source(path)
        if source is None or source.relocated is None or stamp != source.stored:
            return stored
        relocation = replace(stored.relocation or Relocation(TEXT), bytecode=source.relocated)
        return stored._replace(relocation=relocation)


def _pieces(data: FileData, edits: Sequence[Splice]) -> tuple[Sequence[FileChunk], int]:
    pieces = apply(data, edits)
    size = sum(len(piece) for piece in pieces)
    return ([b"".join(in_memory(pieces))] if len(pieces) > 1 and size <= _JOINED else pieces), size


def _restored(data: FileData, restored: Restored, sha256: str = "") -> Stored:
    """Return the stored form; ``sha256`` is the digest of the restored bytes, "" when it is not computed yet."""
    pieces, size = _pieces(data, restored.edits)
    return Stored(pieces, size, sha256 or digest(pieces), restored.relocation)


def _stored(data: FileData, canonical: Canonical, modified: bool, known: str = "") -> Stored:
    """Return the stored form; ``known`` is the digest of ``data``, "" when it is not computed yet."""
    pieces, size = _pieces(data, canonical.edits)
    sha256 = known if known and not canonical.edits else digest(pieces)
    return Stored(
        pieces,
        size,
        sha256,
        canonical.relocation,
        modified=modified,
        unrelocatable=canonical.remarks,
        sources=canonical.sources,
    )
