"""Replacement of the placeholder in a file by a prefix, from a table of offsets.

All functions here work on bytes and do no I/O. A :class:`Relocation` records where a file's *stored* bytes (those
in the bundle, which hold a placeholder) mention the prefix. :func:`splices` turns it and a destination into an
ordered list of replacements without reading the data, so a file of any size is patched while it streams through
(:class:`Splicer`), and :func:`inverse` returns the replacements that undo it, byte for byte.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Iterator, Mapping
from urllib.parse import quote_from_bytes

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.relocation.shebang import Shebang, shebang_line
from envpack.runtime.relocation.splice import Splice

# Bytes which, inside a prefix, break shell scripts, JSON files or the PATH variable, unquoted or quoted.
_UNSAFE = b"\"'\\$`:;&|<>*?[]{}()!#~%\x7f"


@dataclass(frozen=True)
class Bytecode:
    """The data about its source that a timestamp pyc records, when that source is relocated as well.

    PEP 552: offset 12 of a pyc holds the source size, offset 8 its mtime.

    Args:
        size: bytes of the stored source.
        count: occurrences of the placeholder in the source.
        placeholder_length: bytes of the placeholder.
    """

    size: int
    count: int
    placeholder_length: int


@dataclass(frozen=True)
class Relocation:
    """The offsets of ``placeholder`` in one file's stored bytes, by how the data around it must change.

    Args:
        placeholder: the bytes that a deployment's prefix replaces.
        text: offsets of occurrences in text; the file grows or shrinks.
        padded: offsets of occurrences in binaries that keep their length. A shorter prefix is followed by slashes,
            which change no path, so the bytes behind it do not move. Linkers let strings share their ends (ld's
            SHF_MERGE tail merging), and code may hold a pointer into the middle of one.
        strings: NUL-terminated strings in binaries, each as the offsets of its occurrences and then the offset of
            its NUL. The bytes that a shorter prefix leaves over are filled with NULs behind the string. Used for
            occurrences with nothing behind them in their string by earlier versions of envpack.
        optional: offsets of occurrences in binaries that are replaced like those of ``padded`` by a prefix that
            fits; a longer one leaves the placeholder. Nothing opens the paths there: debug information, and names
            of sources in messages.
        marshal: string constants in a pyc, each as (offset of the type byte, that byte, length in bytes, offsets
            of the occurrences...). Type and length are rewritten with the string (CPython Python/marshal.c).
        encoded: occurrences in text that are written in a form of `ENCODINGS`: (form, offsets).
        shebang: the first line, if it holds the placeholder.
        bytecode: the source of a timestamp pyc, if that source is relocated as well.
    """

    placeholder: bytes
    text: tuple[int, ...] = ()
    padded: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    strings: tuple[tuple[int, ...], ...] = ()
    marshal: tuple[tuple[int, ...], ...] = ()
    encoded: tuple[tuple[str, tuple[int, ...]], ...] = ()
    shebang: Shebang | None = None
    bytecode: Bytecode | None = None

    @property
    def max_prefix_length(self) -> int | None:
        """Return the length of the longest prefix that fits, in bytes; None when every length does."""
        return len(self.placeholder) if self.strings or self.padded else None

    @property
    def binary(self) -> bool:
        """Return whether the file is a binary that keeps its length."""
        return bool(self.strings or self.padded or self.optional)

    def growth(self, prefix: bytes) -> int:
        """Return by how many bytes the file grows with this prefix (negative: it shrinks)."""
        return sum(len(s.new) - len(s.old) for s in splices(self, prefix))


def _url(path: bytes) -> bytes:
    return quote_from_bytes(path, safe="/").encode()


def _percent(path: bytes) -> bytes:
    return quote_from_bytes(path, safe="").encode()


def _json(path: bytes) -> bytes:
    return json.dumps(path.decode("utf-8", "surrogateescape"))[1:-1].encode()


def _json_slashes(path: bytes) -> bytes:
    return _json(path).replace(b"/", b"\\/")


ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "json": _json,
    "json-slashes": _json_slashes,
    "percent": _percent,
    "url": _url,
}
"""Functions that encode a path, by form, for text that does not hold it byte for byte: ASCII strings of JSON (RFC
8259, section 7), the same with slashes escaped as PHP does, and URLs, as one component or as a path (RFC 3986,
section 2.1)."""


def unsafe_bytes(prefix: bytes) -> bytes:
    """Return the bytes of a prefix that can't be written into scripts safely, sorted; b'' when there are none.

    Spaces are safe; quotes, ``$``, ``:`` and the like would change the meaning of scripts and of PATH.
    """
    return bytes(sorted({c for c in prefix if c < 0x20 or c in _UNSAFE}))


def splices(relocation: Relocation, prefix: bytes) -> list[Splice]:
    """Return the replacements that write ``prefix`` into a file's stored bytes, by ascending offset.

    A prefix longer than the placeholder leaves all placeholders in a binary; `Relocation.max_prefix_length` is not
    checked here.
    """
    placeholder = relocation.placeholder
    found: list[Splice] = []
    if relocation.shebang is not None:
        line = relocation.shebang.lead + placeholder + relocation.shebang.rest
        found.append(Splice(0, line, shebang_line(prefix, relocation.shebang)))
    found.extend(Splice(offset, placeholder, prefix) for offset in relocation.text)
    if relocation.binary and len(prefix) <= len(placeholder):
        found.extend(_binary_splices(relocation, prefix))
    for form, places in relocation.encoded:
        old, new = _encoded(form, placeholder), _encoded(form, prefix)
        found.extend(Splice(offset, old, new) for offset in places)
    for start, kind, length, *offsets in relocation.marshal:
        found.extend(_marshal_splices(start, kind, length, offsets, placeholder, prefix))
    if relocation.bytecode is not None:
        source = relocation.bytecode
        size = source.size + source.count * (len(prefix) - source.placeholder_length)
        found.append(Splice(12, _u32(source.size), _u32(size)))
    found.sort(key=lambda splice: splice.offset)
    return found


def _binary_splices(relocation: Relocation, prefix: bytes) -> Iterator[Splice]:
    placeholder = relocation.placeholder
    spare = len(placeholder) - len(prefix)
    filled = prefix + b"/" * spare
    for offset in (*relocation.padded, *relocation.optional):
        yield Splice(offset, placeholder, filled)
    for *offsets, end in relocation.strings:
        for offset in offsets:
            yield Splice(offset, placeholder, prefix)
        yield Splice(end, b"", b"\0" * spare * len(offsets))


@lru_cache(maxsize=256)
def _encoded(form: str, path: bytes) -> bytes:
    return ENCODINGS[form](path)


def check_fits(relocation: Relocation, size: int, where: Callable[[], str]) -> None:
    """Check that the replacements fit a file: inside it, without overlap, and inside strings of stated length.

    Args:
        relocation: the replacements, as a paths table gives them.
        size: bytes of the stored file.
        where: returns the position in the paths table, for messages.

    Raises:
        FormatError: a marshalled string has an unknown type, or a length that its type can't have.
        IntegrityError: a replacement lies outside the file or its string, or overlaps another.
    """
    room = len(relocation.placeholder)
    for start, kind, length, *offsets in relocation.marshal:
        if not 0 < kind < 256 or kind & ~_FLAG_REF not in _KINDS:
            raise FormatError(f"{where()}.marshal: {kind} is not a type of string")
        if length >= (0x100 if kind & ~_FLAG_REF in _SHORT else 1 << 31):
            raise FormatError(f"{where()}.marshal: a string of that type can't have the length {length}")
        begin = start + len(string_head(kind, length))
        if min(offsets) < begin or max(offsets) + room > begin + length or len(set(offsets)) != len(offsets):
            raise IntegrityError(f"{where()}.marshal: a replacement is not inside the string at {start}")
    for *offsets, last in relocation.strings:
        if max(offsets) + room > last:
            raise IntegrityError(f"{where()}.strings: the string that ends at {last} ends too early")
    end = 0
    for offset, old, _ in splices(relocation, relocation.placeholder):
        if offset < end or offset + len(old) > size:
            raise IntegrityError(f"{where()}: a replacement at {offset} overlaps another or is outside the file")
        end = offset + len(old)


def _marshal_splices(
    start: int, kind: int, length: int, offsets: list[int], placeholder: bytes, prefix: bytes
) -> Iterator[Splice]:
    new_length = length + (len(prefix) - len(placeholder)) * len(offsets)
    yield Splice(start, string_head(kind, length), string_head(_kind_for(kind, new_length, prefix), new_length))
    for offset in offsets:
        yield Splice(offset, placeholder, prefix)


# CPython Python/marshal.c, w_complex_object: ASCII strings under 256 bytes are written in the short form.
_SHORT = {ord("z"): ord("a"), ord("Z"): ord("A")}
_LONG = {long: short for short, long in _SHORT.items()}
_UNICODE = {ord("a"): ord("u"), ord("A"): ord("t")}
_FLAG_REF = 0x80
_KINDS = frozenset(b"zZaAuts")


def string_head(kind: int, length: int) -> bytes:
    """Return the type byte and length field of a marshalled string.

    ``kind`` is the type byte, FLAG_REF included; ``length`` is in bytes.
    """
    if kind & ~_FLAG_REF in _SHORT:
        return bytes((kind, length))
    return bytes((kind,)) + _u32(length)


def _kind_for(kind: int, length: int, prefix: bytes) -> int:
    flag, base = kind & _FLAG_REF, kind & ~_FLAG_REF
    base = _SHORT.get(base, base)
    if not prefix.isascii():
        base = _UNICODE.get(base, base)
    elif length < 0x100:
        base = _LONG.get(base, base)
    return base | flag


def _u32(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)
