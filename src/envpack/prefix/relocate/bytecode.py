"""Byte-code files: their header (PEP 552) and the strings in their marshalled code that mention a prefix.

Sources: Lib/importlib/_bootstrap_external.py (header, magic numbers) and Python/marshal.c of CPython 3.8-3.14.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import cache
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


_FLAG_REF = 0x80
_NULL = ord("0")
_COUNT = struct.Struct("<I")
_OBJECT, _NUMBER, _DICT_ITEM = range(3)
"""The kinds of the next value: an object, a 32-bit number of a code object, or a dictionary's key or end."""


class _Type(NamedTuple):
    """The data behind a type byte.

    Attributes:
        size: Bytes of a fixed size.
        children: What comes after these, in reverse order.
        width: Bytes of a count, instead of both; 0: there is none.
        unit: Bytes of each item that is counted; 0: the items are objects.
        text: Whether the items are the bytes of a string.
    """

    size: int = 0
    children: tuple[int, ...] = ()
    width: int = 0
    unit: int = 0
    text: bool = False


_TYPES = {
    b"NFTS.": _Type(),
    b"ir": _Type(size=4),
    b"Ig": _Type(size=8),
    b"y": _Type(size=16),
    b"l": _Type(width=4, unit=2),
    b"zZ": _Type(width=1, unit=1, text=True),
    b"stuaA": _Type(width=4, unit=1, text=True),
    b")": _Type(width=1),
    b"([<>": _Type(width=4),
    b"{": _Type(children=(_DICT_ITEM,)),
    b":": _Type(children=(_OBJECT,) * 3),
}
"""The types of all versions, by their type bytes without FLAG_REF; code objects differ (`_types`)."""

_MAGIC_3_8, _MAGIC_3_11, _MAGIC_AFTER = 3413, 3450, 3700
"""importlib's magic numbers: 3.8 (the field posonlyargcount), the first of 3.11 (code objects changed), and one
after all known releases."""

# code consts names varnames freevars cellvars filename name | firstlineno | lnotab
_CODE_3_8 = _Type(6 * 4, (_OBJECT, _NUMBER, *[_OBJECT] * 8))
# code consts names localsplusnames localspluskinds filename name qualname | firstlineno | lines exceptions
_CODE_3_11 = _Type(5 * 4, (_OBJECT, _OBJECT, _NUMBER, *[_OBJECT] * 8))


@cache
def _types(code: _Type) -> tuple[_Type | None, ...]:
    """Return the type for each type byte, with and without FLAG_REF."""
    known = {byte: type for several, type in {**_TYPES, b"c": code}.items() for byte in several}
    return tuple(known.get(byte & ~_FLAG_REF) for byte in range(256))


def marshal_strings(data: bytes) -> list[MarshalString]:
    """Return every string of a pyc's code, ascending.

    Raises:
        UnparsableError: The code can't be parsed to its end.
    """
    magic = struct.unpack_from("<H", data)[0]
    if magic < _MAGIC_3_8 or magic >= _MAGIC_AFTER:
        raise UnparsableError(f"byte-code of magic number {magic}")
    types = _types(_CODE_3_8 if magic < _MAGIC_3_11 else _CODE_3_11)
    strings: list[MarshalString] = []
    position, end = HEADER, len(data)
    pending = [_OBJECT]
    try:
        while pending:
            todo = pending.pop()
            if todo == _NUMBER:
                position += 4
                continue
            start, byte = position, data[position]
            position += 1
            if todo == _DICT_ITEM:
                if byte & ~_FLAG_REF == _NULL:
                    continue
                pending += (_DICT_ITEM, _OBJECT)
            type = types[byte]
            if type is None:
                raise UnparsableError(f"type byte {byte & ~_FLAG_REF} at {start}")
            size, children, width, unit, text = type
            if width:
                count = data[position] if width == 1 else _COUNT.unpack_from(data, position)[0]
                position += width
                if text:
                    size = count
                    strings.append(MarshalString(start, position, position + size))
                elif unit:
                    size = unit * min(count, 2**32 - count)  # the sign of the count is that of the number
                elif count > end:
                    raise UnparsableError(f"a collection of {count} items at {position - width}")
                else:
                    children = (_OBJECT,) * count
            pending += children
            position += size
            if position > end:
                raise UnparsableError(f"an object at {start} that goes on beyond the end")
    except (IndexError, struct.error):
        raise UnparsableError("an object that goes on beyond the end") from None
    if position != end:
        raise UnparsableError(f"bytes after the code, from {position}")
    return strings


class BytecodeMention(NamedTuple):
    """A string constant that mentions a prefix; ``places`` are the (offset, length) of each mention."""

    string: MarshalString
    places: tuple[tuple[int, int], ...]


def mentions(data: bytes, aliases: Sequence[bytes], source: str) -> list[BytecodeMention]:
    """Return the strings of a pyc that mention the prefix, ascending.

    Args:
        data: The bytes of the pyc.
        aliases: All paths of the prefix.
        source: The path of its source, relative to the prefix.

    Raises:
        UnparsableError: The prefix is mentioned, but the code can't be parsed.
    """
    found = [(offset, alias) for alias in aliases for offset in find_all(data, alias, HEADER)]
    if not found:
        return []
    found.sort()
    quick = [_filename(data, offset, alias, source) for offset, alias in found]
    if all(quick):
        return [mention for mention in quick if mention is not None]
    return _parsed(data, found)


def _filename(data: bytes, offset: int, alias: bytes, source: str) -> BytecodeMention | None:
    """Return the mention if it is the file name that code objects hold: a string of just the source's path."""
    path = alias + b"/" + source.encode("utf-8", "surrogateescape")
    end = offset + len(path)
    if data[offset:end] != path:
        return None
    for head in (2, 5):
        start = offset - head
        kind = data[start]
        known = kind & ~_FLAG_REF in (b"zZ" if head == 2 else b"aAut")
        if start >= HEADER and known and data[start:offset] == string_head(kind, len(path)):
            return BytecodeMention(MarshalString(start, offset, end), ((offset, len(alias)),))
    return None


def _parsed(data: bytes, found: list[tuple[int, bytes]]) -> list[BytecodeMention]:
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
            mentioning.append(BytecodeMention(string, tuple(places)))
    return mentioning
