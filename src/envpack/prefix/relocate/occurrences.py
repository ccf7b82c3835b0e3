"""The search for a prefix in bytes, and the placeholder that replaces it in what is stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import FileData, Piece, WindowedFile, in_memory, part
from envpack.runtime.relocation.splice import Splice

TEXT_PLACEHOLDER_LENGTH = 255
"""Bytes of the placeholder in text: what conda-build uses, so that a search for either finds both."""


def canonical_placeholder(length: int) -> bytes:
    """Return the path of ``length`` bytes that replaces the prefix in stored files that no package published."""
    lead, filler = b"/envpack_placeholder", b"_placehold"
    return (lead + filler * (max(0, length - len(lead)) // len(filler) + 1))[:length]


class Occurrence(NamedTuple):
    """A mention of the prefix at ``offset``, with ``length`` bytes."""

    offset: int
    length: int


def find_all(data: FileData, needle: bytes, start: int = 0, end: int = -1) -> Iterator[int]:
    """Yield the offsets of ``needle`` in ``data[start:end]``, ascending, without overlaps.

    A negative ``end`` stands for the end of the data.
    """
    end = len(data) if end < 0 else end
    offset = data.find(needle, start, end)
    while offset >= 0:
        yield offset
        offset = data.find(needle, offset + len(needle), end)


def find_prefix(data: FileData, aliases: Sequence[bytes]) -> list[Occurrence]:
    """Return where ``data`` mentions the prefix under any of its paths, as a path of its own, ascending.

    /opt/env is not mentioned by /opt/env2, /opt/env.bak or /data/opt/env; it is by -I/opt/env/include,
    "/opt/env", file:///opt/env and a sentence that ends in /opt/env.
    """
    found = [
        Occurrence(offset, len(alias))
        for alias in aliases
        for offset in find_all(data, alias)
        if stands_alone(data, offset, offset + len(alias))
    ]
    if len(aliases) > 1 and len(found) > 1:
        found = _without_overlaps(found)
    return found


def _without_overlaps(found: list[Occurrence]) -> list[Occurrence]:
    kept: list[Occurrence] = []
    for occurrence in sorted(found, key=lambda o: (o.offset, -o.length)):
        if not kept or occurrence.offset >= kept[-1].offset + kept[-1].length:
            kept.append(occurrence)
    return kept


# In UTF-8: the byte order mark, a blank that does not break, quotes, an ellipsis and CJK's stops and brackets.
_MARKS = rb"\xef\xbb\xbf|\xc2[\xa0\xab\xbb]|\xe2\x80[\x98-\x9f\xa6\xb9\xba]|\xe3\x80[\x81\x82\x88-\x91]"
_MARK = re.compile(_MARKS)
# What may stand in a path component next to the prefix's own bytes. A dot at the end of a word is a full
# stop; bytes above 0x7f that are no marks belong to a name in UTF-8.
_CONTINUES = re.compile(rb"\.*(?!" + _MARKS + rb")[\w\-+@~\x80-\xff]")
# Before the prefix's slash: a word means that the slash separates it from the prefix's first component,
# unless the word is an option (-I/opt/env), a mark of its own (gcc's @/opt/env/args, systemd's -/opt/env, the
# "." that CPython's Makefile puts before its prefix for WASM) or the end of an escape sequence (\n/opt/env).
_WORD_BEFORE = re.compile(rb"[\w.\-+@~\x80-\xff]+\Z")
_OPTION = re.compile(rb"(?:-[A-Za-z]*|[+@.])\Z")
_ESCAPE = re.compile(rb"\\(?:[abefnrtv0]|x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4})\Z")


UNMISTAKABLE = 100
"""Bytes from which on a prefix can't be part of another path by chance, whatever bytes surround it: ``envpack
build`` uses a longer one, and installers replace placeholders of that length without checking the bytes around
them."""


def stands_alone(data: FileData, start: int, end: int, first: int = 0, last: int = -1) -> bool:
    """Return whether the path at ``data[start:end]`` is not part of a longer name.

    Only the bytes in [first, last) are checked; ``last`` < 0: to the end.
    """
    if end - start >= UNMISTAKABLE:
        return True
    last = len(data) if last < 0 else last
    if _CONTINUES.match(data[end : min(last, end + 64)]):
        return False
    if start == first:
        return True
    before = data[max(first, start - 64) : start]
    word = _WORD_BEFORE.search(before)
    if word is None or _ESCAPE.search(before):
        return True
    name = _MARK.split(word.group())[-1]
    if not name:
        return True
    return _OPTION.match(name) is not None and not before[: -len(name)].endswith(b"/")


def is_text(data: FileData) -> bool:
    """Return whether ``data`` has no NUL: then tools read it as lines, and its length may change."""
    return data.find(b"\0") < 0


def apply(data: FileData, edits: Sequence[Splice]) -> list[Piece]:
    """Return ``data`` with ``edits`` applied, as pieces that copy nothing of ``data``.

    The edits must be ascending, and must match the data: this is not checked.
    """
    if not edits:
        return [data]
    pieces: list[Piece] = []
    done = 0
    for offset, old, new in edits:
        if offset > done:
            pieces.append(part(data, done, offset))
        if new:
            pieces.append(new)
        done = offset + len(old)
    if done < len(data):
        pieces.append(part(data, done, len(data)))
    return pieces


def digest(pieces: Iterable[Piece]) -> str:
    """Return the sha256 of the joined pieces, in hex."""
    whole = list(pieces)
    if len(whole) == 1 and isinstance(whole[0], WindowedFile) and whole[0].sha256:
        return whole[0].sha256
    state = hashlib.sha256()
    for piece in in_memory(whole):
        state.update(piece)
    return state.hexdigest()
