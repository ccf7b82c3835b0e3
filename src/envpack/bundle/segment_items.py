"""Items of a segment: the files of a package as they are stored, in order."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from envpack.bundle.model import PROMISED_ROOM, Item, Limit, PackFindings
from envpack.prefix.model import Entry, Group, Stored
from envpack.prefix.own.ids import is_own
from envpack.prefix.relocate.occurrences import Harmless
from envpack.prefix.relocate.residual_mentions import matters
from envpack.prefix.relocate.shebang import may_need_activation
from envpack.prefix.scan.windowed_file import FileChunk, FileData, WindowedFile
from envpack.runtime.errors import PackError
from envpack.runtime.format.changes import Unrelocatable
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.io import NotRegularFileError, open_regular

_LARGE = 16 << 20
"""Minimum bytes of a file that is read in parts instead of at once."""


class Normalizer(Protocol):
    """The form in which files are stored; see `envpack.prefix.FileNormalizer`."""

    def names_prefix(self, path: str) -> bool: ...

    def normalize(self, entry: Entry, data: FileData) -> Stored: ...


def segment_items(
    group: Group, prefix: Path, normalizer: Normalizer, found: PackFindings, advance: Callable[[int], None]
) -> Iterator[Item]:
    """Yield the items that are stored of a package's paths, in their order.

    Args:
        group: Paths of the package.
        prefix: Directory of the environment.
        normalizer: Decides the stored form of files.
        found: Receives the findings that show only when files are stored.
        advance: Receives the bytes of each file.

    Raises:
        PackError: A file can't be read.
    """
    root, own = f"{prefix}/", is_own(group.id)
    for entry in group.entries:
        if normalizer.names_prefix(entry.path):
            reason = "the environment's path is part of its own, and stays"
            found.unrelocatable.append(Unrelocatable(entry.path, reason, matters(entry.path)))
        if entry.type != "file":
            yield Item(PathRecord(entry.path, entry.type, mode=entry.mode, target=entry.target))
            continue
        place = entry.place or root + entry.path
        data, changed = _read(place, entry)
        stored = normalizer.normalize(entry, data)
        if changed:
            found.changing.append(entry.path)
        if stored.modified:
            found.modified.append(entry.path)
        for remark in stored.unrelocatable:
            found.unrelocatable.append(Unrelocatable(entry.path, str(remark), _matters(entry.path, remark)))
        if entry.mode & 0o111 and may_need_activation(stored.relocation, stored.pieces):
            found.needs_activation.append(entry.path)
        room = stored.relocation.max_prefix_length if stored.relocation is not None else None
        if room is not None and room < PROMISED_ROOM:
            found.limits.append(Limit(entry.path, room, _limiting_string(stored, os.fsencode(prefix))))
        if stored.sources:
            found.sources.append(entry.path)
        found.asked.update(stored.asked)
        if not stored.searched:
            found.unsearched.append(entry.path)
        record = PathRecord(
            entry.path,
            "file",
            mode=entry.mode,
            size=stored.size,
            sha256=stored.sha256,
            mtime=entry.mtime if own and entry.content is None else stored.mtime,
            relocation=stored.relocation,
        )
        whole = entry.content is None and _is_whole(stored.pieces, data)
        yield Item(record, stored.pieces, place if whole else "")
        if isinstance(data, WindowedFile):
            moved = whole and not os.path.exists(place)  # the sink has renamed it to its target
            if not moved and _has_changed(place, entry):
                found.changing.append(entry.path)  # changed between search and write
        advance(entry.size)


_MOST_SHOWN = 120
_UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f]")


def _limiting_string(stored: Stored, prefix: bytes) -> str:
    """Return the first string of a binary that has no room for a longer prefix, with ``prefix`` written in."""
    relocation = stored.relocation
    assert relocation is not None
    offset = min((*relocation.padded, *(string[0] for string in relocation.strings)))
    start, end = max(0, offset - _MOST_SHOWN), offset + len(relocation.placeholder) + _MOST_SHOWN
    window, position = b"", 0
    for piece in stored.pieces:
        stop = position + len(piece)
        if stop > start and position < end:
            window += bytes(piece[max(0, start - position) : end - position])
        position = stop
    before = _UNPRINTABLE.split(window[: offset - start])[-1][-40:]
    after = _UNPRINTABLE.split(window[offset - start + len(relocation.placeholder) :])[0]
    string = before + prefix + after.replace(relocation.placeholder, prefix)
    return os.fsdecode(string[:_MOST_SHOWN])


def _matters(path: str, remark: str) -> bool:
    return not isinstance(remark, Harmless) and matters(path)


def _is_whole(pieces: Sequence[FileChunk], data: FileData) -> bool:
    """Return whether the pieces are the data itself, unchanged."""
    return len(pieces) == 1 and pieces[0] is data


def _has_changed(place: str, entry: Entry) -> bool:
    """Return whether the file at ``place`` is not the one that was found when the tree was read."""
    try:
        return _is_other(os.stat(place), entry)
    except OSError:
        return True


def _is_other(facts: os.stat_result, entry: Entry) -> bool:
    return facts.st_size != entry.size or facts.st_mtime_ns != entry.stamp[0]


def _read(place: str, entry: Entry) -> tuple[FileData, bool]:
    """Return a file's bytes, and whether it was changed since the tree was read.

    The bytes of a changed file may be partly old and partly new. A large file is read only when its bytes are
    used.
    """
    if entry.content is not None:
        return entry.content, False
    try:
        descriptor = open_regular(place)
        try:
            if entry.size >= _LARGE:
                return WindowedFile.of(descriptor, place), _is_other(os.fstat(descriptor), entry)
            data = os.read(descriptor, entry.size + 1)
            return data, len(data) != entry.size or _is_other(os.fstat(descriptor), entry)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotRegularFileError):
        return b"", True  # deleted or replaced since the tree was read
    except OSError as problem:
        raise PackError(f"can't read {place}: {problem.strerror}") from None
