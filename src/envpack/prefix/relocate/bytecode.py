"""Byte-code files: their header (PEP 552) and the strings in their marshalled code that mention a prefix.

Sources: Lib/importlib/_bootstrap_external.py (header, magic numbers) and Python/marshal.c of CPython 3.8-3.14.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from envpack.prefix.relocate.occurrences import find_all, stands_alone
from envpack.runtime.relocation.relocation import string_head
from envpack.runtime.relocation.splice import Splice

HEADER = 16
"""Bytes before the marshalled code: magic number, flags, then the source's mtime and size."""


class Timestamp(NamedTuple):
    """The source's time in whole seconds and size in bytes, as a pyc records them, both modulo 2**32."""

    mtime: int
    size: int


def is_bytecode(data: bytes) -> bool:
    """Return whether ``data`` starts as every pyc since Python 3.7 does."""
    return len(data) > HEADER and data[2:4] == b"\r\n" and data[5:8] == b"\0\0\0" and data[4] <= 3


_CACHE = re.compile(r"(?:.*/)?__pycache__/[^/]+\.cpython-\d+t?(?:\.opt-[^./]+)?\.pyc")


def is_cache(path: str) -> bool:
    """Return whether CPython loads the file at ``path`` when it imports the source (PEP 3147, PEP 488).

    Files of pytest in the same folder do not count: pytest loads them by itself.

    >>> is_cache("lib/a/__pycache__/b.cpython-311.opt-1.pyc"), is_cache("lib/c.pyc")
    (True, False)
    """
    return _CACHE.fullmatch(path) is not None


def timestamp(data: bytes) -> Timestamp | None:
    """Return the source's time and size; None for a pyc that is bound to its source by hash."""
    flags, mtime, size = struct.unpack_from("<III", data, 4)
    return Timestamp(mtime, size) if flags == 0 else None


def timestamp_edit(data: bytes, stamp: Timestamp) -> list[Splice]:
    """Return the edit that writes ``stamp`` into the header; none when it is there already."""
    old, new = data[8:HEADER], struct.pack("<II", stamp.mtime & 0xFFFFFFFF, stamp.size & 0xFFFFFFFF)
    return [Splice(8, old, new)] if old != new else []


class MarshalString(NamedTuple):
    """A string constant.

    Attributes:
        start: Offset of its type byte.
        text: Offset of its text.
        end: Offset of the end of its text.
    """

    start: int
    text: int
    end: int


class UnparsableError(Exception):
    """The marshalled code is not what CPython 3.8-3.14 writes."""


# Type bytes without FLAG_REF.
_LONG_STRINGS = frozenset(b"stuaA")
_SHORT_STRINGS = frozenset(b"zZ")
_SINGLES = frozenset(b"NFTS.")
_LONG_COUNTS = frozenset(b"([<>")
_CODE, _DICT, _NULL, _SMALL_TUPLE, _SLICE = b"c{0):"
_FIXED = {ord("i"): 4, ord("I"): 8, ord("g"): 8, ord("y"): 16, ord("r"): 4}
_FLAG_REF = 0x80

_MAGIC_3_8, _MAGIC_3_11, _MAGIC_AFTER = 3413, 3450, 3700
"""importlib's magic numbers: 3.8 (the field posonlyargcount), the first of 3.11 (code objects changed), and one
after all known releases."""


def _code_layout(magic: int) -> tuple[int, tuple[bool, ...]]:
    """Return the count of 32-bit numbers that start a code object, and for each later field if it is an object."""
    if magic < _MAGIC_3_8 or magic >= _MAGIC_AFTER:
        raise UnparsableError(f"byte-code of magic number {magic}")
    if magic < _MAGIC_3_11:
        # code consts names varnames freevars cellvars filename name | firstlineno | lnotab
        return 6, (True,) * 8 + (False, True)
    # code consts names localsplusnames localspluskinds filename name qualname | firstlineno | lines exceptions
    return 5, (True,) * 8 + (False, True, True)


def marshal_strings(data: bytes) -> list[MarshalString]:
    """Return every string of a pyc's code, ascending.

    Raises:
        UnparsableError: The code can't be parsed to its end.
    """
    numbers, fields = _code_layout(struct.unpack_from("<H", data)[0])
    code = tuple("object" if is_object else "number" for is_object in reversed(fields))
    strings: list[MarshalString] = []
    position = HEADER
    pending: list[str] = ["object"]
    try:
        while pending:
            todo = pending.pop()
            if todo == "number":
                position += 4
                continue
            start, kind = position, data[position] & ~_FLAG_REF
            position += 1
            if todo == "key":
                if kind == _NULL:
                    continue
                pending += ("key", "object")
            if kind in _SHORT_STRINGS:
                strings.append(MarshalString(start, position + 1, position + 1 + data[position]))
                position = strings[-1].end
            elif kind in _LONG_STRINGS:
                length = struct.unpack_from("<I", data, position)[0]
                strings.append(MarshalString(start, position + 4, position + 4 + length))
                position = strings[-1].end
            elif kind in _SINGLES:
                pass
            elif kind in _FIXED:
                position += _FIXED[kind]
            elif kind == _SMALL_TUPLE:
                pending += ("object",) * data[position]
                position += 1
            elif kind in _LONG_COUNTS:
                pending += ("object",) * _count(data, position)
                position += 4
            elif kind == ord("l"):
                position += 4 + 2 * abs(struct.unpack_from("<i", data, position)[0])
            elif kind == _CODE:
                position += 4 * numbers
                pending += code
            elif kind == _DICT:
                pending.append("key")
            elif kind == _SLICE:
                pending += ("object",) * 3
            else:
                raise UnparsableError(f"type byte {kind} at {start}")
            if position > len(data):
                raise UnparsableError(f"an object at {start} that goes on beyond the end")
    except (IndexError, struct.error):
        raise UnparsableError("an object that goes on beyond the end") from None
    if position != len(data):
        raise UnparsableError(f"bytes after the code, from {position}")
    return strings


def _count(data: bytes, position: int) -> int:
    count: int = struct.unpack_from("<I", data, position)[0]
    if count > len(data):
        raise UnparsableError(f"a collection of {count} items at {position}")
    return count


class Mention(NamedTuple):
    """A string constant that mentions a prefix; ``places`` are the (offset, length) of each mention."""

    string: MarshalString
    places: tuple[tuple[int, int], ...]


def mentions(data: bytes, spellings: Sequence[bytes], source: str) -> list[Mention]:
    """Return the strings of a pyc that mention the prefix, ascending.

    Args:
        data: The bytes of the pyc.
        spellings: All paths of the prefix.
        source: The path of its source, relative to the prefix.

    Raises:
        UnparsableError: The prefix is mentioned, but the code can't be parsed.
    """
    found = [(offset, spelling) for spelling in spellings for offset in find_all(data, spelling, HEADER)]
    if not found:
        return []
    found.sort()
    quick = [_filename(data, offset, spelling, source) for offset, spelling in found]
    if all(quick):
        return [mention for mention in quick if mention is not None]
    return _parsed(data, found)


def _filename(data: bytes, offset: int, spelling: bytes, source: str) -> Mention | None:
    """Return the mention if it is the file name that code objects hold: a string of just the source's path."""
    path = spelling + b"/" + source.encode("utf-8", "surrogateescape")
    end = offset + len(path)
    if data[offset:end] != path:
        return None
    for head in (2, 5):
        start = offset - head
        kind = data[start]
        known = kind & ~_FLAG_REF in (b"zZ" if head == 2 else b"aAut")
        if start >= HEADER and known and data[start:offset] == string_head(kind, len(path)):
            return Mention(MarshalString(start, offset, end), ((offset, len(spelling)),))
    return None


def _parsed(data: bytes, found: list[tuple[int, bytes]]) -> list[Mention]:
    mentioning = []
    remaining = iter(found)
    upcoming = next(remaining, None)
    for string in marshal_strings(data):
        places: list[tuple[int, int]] = []
        while upcoming is not None and upcoming[0] < string.end:
            offset, length = upcoming[0], len(upcoming[1])
            inside = string.text <= offset and offset + length <= string.end
            free = not places or offset >= sum(places[-1])
            if inside and free and stands_alone(data, offset, offset + length, string.text, string.end):
                places.append((offset, length))
            upcoming = next(remaining, None)
        if places:
            mentioning.append(Mention(string, tuple(places)))
    return mentioning
