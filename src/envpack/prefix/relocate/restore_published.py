"""The way back from an installed file to the bytes that its conda package published.

Installers replace a placeholder: in text everywhere (and they rewrite first lines that got too long), in binaries
in NUL-terminated strings, filled up with NULs at the end. Neither records the positions; the published size and
digest verify whether the restored bytes are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from envpack.prefix.model import Published
from envpack.prefix.relocate.binary import slashes
from envpack.prefix.relocate.occurrences import apply, digest, find_all, stands_alone
from envpack.prefix.relocate.shebang import HEAD, direct_line, published_lines
from envpack.prefix.scan.windowed_file import FileData, in_memory
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.splice import Splice

_MOST_GUESSES = 300
"""Maximum number of choices of occurrences to try, when the package itself published some with this prefix."""


@dataclass(frozen=True)
class Restored:
    """The way from an installed file to the published one.

    Attributes:
        edits: The edits that make the published file of the installed one.
        relocation: The positions of the placeholder in the published file; None when it has none.
    """

    edits: tuple[Splice, ...]
    relocation: Relocation | None


def restore_published(
    data: FileData, published: Published, aliases: Sequence[bytes], executable: bool = False
) -> Restored | None:
    """Return the edits that restore the published file, verified by its digest; None when the file was changed.

    Args:
        data: The installed file.
        published: The file as its package published it.
        aliases: The paths that an installer may have written in.
        executable: Whether a first line that runs something in the prefix becomes a Shebang.
    """
    placeholder = published.placeholder
    if placeholder is not None and published.size == len(data):
        # rattler records the size after writing the prefix (rattler/src/install/mod.rs), conda before it
        published = replace(published, size=None)
    if placeholder is None:
        same = published.size in (None, len(data)) and digest([data]) == published.sha256
        return Restored((), None) if same else None
    binary = published.file_mode == "binary"
    for prefix in aliases:
        guesses = [_strings(data, prefix, placeholder)] if binary else _texts(data, prefix, published)
        for edits in guesses:
            growth = sum(len(edit.new) - len(edit.old) for edit in edits)
            if published.size not in (None, len(data) + growth):
                continue
            if digest(apply(data, edits)) == published.sha256:
                marks = _marks(data, edits, placeholder)
                return Restored(tuple(edits), _relocation(data, edits, marks, placeholder, binary, executable))
    return None


def without_prefix(data: FileData, published: Published, aliases: Sequence[bytes]) -> Restored | None:
    """Return the edits that restore a binary without a published digest; None when that is not certain.

    The binary must be unchanged since it was installed. Installers leave all the room that the placeholder took:
    the result is None when there is less room, or when it is not certain that they wrote each mention.

    Args:
        data: The bytes of the binary.
        published: The file as its package published it.
        aliases: All paths of the prefix.
    """
    placeholder = published.placeholder
    if placeholder is None:
        return None
    for prefix in aliases:
        found = list(find_all(data, prefix))
        edits = _strings(data, prefix, placeholder)
        written = [edit for edit in edits if edit.new]
        certain = all(stands_alone(data, offset, offset + len(prefix)) for offset in found)
        if found and certain and len(written) == len(found):
            marks = _marks(data, edits, placeholder)
            return Restored(tuple(edits), _relocation(data, edits, marks, placeholder, True, False))
    return None


# --- guesses: edits that may lead to the published bytes ---


def _texts(data: FileData, prefix: bytes, published: Published) -> Iterator[list[Splice]]:
    placeholder = published.placeholder
    assert placeholder is not None
    firsts: list[list[Splice]] = [[]]
    if data[:2] == b"#!":
        lines = published_lines(data[:HEAD], prefix, placeholder)
        firsts += [[Splice(0, data[:end], line)] for end, line in lines]
    for first in firsts:
        found = list(find_all(data, prefix, len(first[0].old) if first else 0))
        length = len(data) + sum(len(edit.new) - len(edit.old) for edit in first)
        for chosen in _choices(found, length, len(placeholder) - len(prefix), published.size):
            yield first + [Splice(offset, prefix, placeholder) for offset in chosen]


def _choices(found: list[int], length: int, growth: int, size: int | None) -> Iterator[Sequence[int]]:
    """Yield the occurrences that the installer may have written: all, or as many as the published size allows."""
    if size is None or growth == 0:
        yield found
        if 2 ** len(found) <= _MOST_GUESSES:
            for count in range(1, len(found)):
                yield from combinations(found, count)
        return
    if length + growth * len(found) == size:
        yield found
        return
    count, remainder = divmod(size - length, growth)
    if remainder == 0 and 0 <= count < len(found) and math.comb(len(found), count) <= _MOST_GUESSES:
        yield from combinations(found, count)


def _strings(data: FileData, prefix: bytes, placeholder: bytes) -> list[Splice]:
    """Return the edits for every NUL-terminated string that has the prefix in it and room for the placeholder.

    The room is slashes right after the prefix, as envpack deploys, or NULs after the string, as conda and rattler
    install.
    """
    spare = len(placeholder) - len(prefix)
    if spare < 0:
        return []
    edits: list[Splice] = []
    start = data.find(prefix)
    while start >= 0:
        end = _string_end(data, start)
        offsets = list(find_all(data, prefix, start, end))
        padded = [offset for offset in offsets if slashes(data, offset + len(prefix), spare) == spare > 0]
        room = spare * (len(offsets) - len(padded))
        if data[end : end + room] == bytes(room):
            filled = prefix + b"/" * spare
            edits.extend(Splice(offset, filled if offset in padded else prefix, placeholder) for offset in offsets)
            edits.append(Splice(end, bytes(room), b""))
            end += room
        start = data.find(prefix, end)
    return edits


def _string_end(data: FileData, start: int) -> int:
    end = data.find(b"\0", start)
    return len(data) if end < 0 else end


# --- where the published bytes hold the placeholder ---


class _Mark(NamedTuple):
    """A position of the placeholder.

    Attributes:
        offset: Offset of the text in the installed file.
        length: Length of the text in the installed file, in bytes.
        stored: Offset of the placeholder in the published file.
    """

    offset: int
    length: int
    stored: int


def _marks(data: FileData, edits: Sequence[Splice], placeholder: bytes) -> list[_Mark]:
    marks: list[_Mark] = []
    done = shift = 0
    for offset, old, new in (*edits, Splice(len(data), b"", b"")):
        # also where no installer replaced it: a deployment will
        untouched = find_all(data, placeholder, done, offset)
        marks.extend(_Mark(place, len(placeholder), place + shift) for place in untouched)
        marks.extend(_Mark(offset, len(old), offset + shift + inside) for inside in find_all(new, placeholder))
        done = offset + len(old)
        shift += len(new) - len(old)
    return marks


def _relocation(
    data: FileData,
    edits: Sequence[Splice],
    marks: Sequence[_Mark],
    placeholder: bytes,
    binary: bool,
    executable: bool,
) -> Relocation | None:
    if not marks:
        return None
    if binary:
        return Relocation(placeholder, padded=tuple(mark.stored for mark in marks))
    if executable and data[:2] == b"#!":
        first_edits = [edit for edit in edits if edit.offset + len(edit.old) <= HEAD]
        head = b"".join(in_memory(apply(data[:HEAD], first_edits)))
        line = direct_line(head, [placeholder])
        if line is not None:
            rest = tuple(mark.stored for mark in marks if mark.stored >= line.end)
            return Relocation(placeholder, text=rest, shebang=line.shebang)
    return Relocation(placeholder, text=tuple(mark.stored for mark in marks))
