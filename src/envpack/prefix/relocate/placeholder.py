"""The replacement of the prefix in files that no package published: its mentions become a canonical placeholder.

The stored bytes then no longer depend on the path where the environment was built. Text may grow, so its
placeholder has the length that conda uses; a string in a binary keeps its length, so that nothing moves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from envpack.prefix.relocate.binary import BinaryMention, BinaryString, binary_relocation
from envpack.prefix.relocate.bytecode import MarshalString, UnparsableError, mentions
from envpack.prefix.relocate.encoded_mentions import Encoded, find_encoded
from envpack.prefix.relocate.occurrences import (
    TEXT_PLACEHOLDER_LENGTH,
    Occurrence,
    canonical_placeholder,
    find_all,
    find_prefix,
    is_text,
)
from envpack.prefix.relocate.shebang import HEAD, FirstLine, first_line
from envpack.prefix.scan.windowed_file import FileData, in_memory, part
from envpack.runtime.relocation.relocation import ENCODINGS, Relocation, string_head
from envpack.runtime.relocation.splice import Splice

TEXT = canonical_placeholder(TEXT_PLACEHOLDER_LENGTH)

_CONTAINERS = (
    (0, b"PK\x03\x04", "zip archive"),
    (0, b"\x1f\x8b", "gzip file"),
    (0, b"BZh", "bzip2 file"),
    (0, b"\xfd7zXZ\0", "xz file"),
    (0, b"\x28\xb5\x2f\xfd", "zstandard file"),
    (257, b"ustar", "tar archive"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"\xca\xfe\xba\xbe", "Java class"),
    (0, b"\0asm", "WebAssembly module"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (0, b"PAR1", "Parquet file"),
    (0, b"\x93NUMPY", "NumPy array"),
)
"""Formats that store lengths or checksums of their contents, so that no string in them can change its length:
(offset, bytes there, name), as file(1) identifies them."""

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NO_STRING = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
_ZIP_END, _ZIP_END_REACH = b"PK\x05\x06", 22 + 65535
"""End of central directory, and its maximum distance from a file's end in bytes (PKWARE APPNOTE 4.3.16)."""


@dataclass(frozen=True)
class Canonical:
    """The change from a file to its stored form.

    Attributes:
        edits: The edits that make the stored bytes, ascending.
        relocation: The positions of the placeholder in the stored bytes.
        remarks: Descriptions of mentions that stay unchanged.
    """

    edits: tuple[Splice, ...] = ()
    relocation: Relocation | None = None
    remarks: tuple[str, ...] = ()


def canonicalise(
    data: FileData,
    aliases: Sequence[bytes],
    executable: bool,
    needles: Sequence[tuple[bytes, str]] = (),
) -> Canonical:
    """Return the stored form of a text or binary file.

    Args:
        data: The file's bytes.
        aliases: All paths of the prefix.
        executable: Whether the file is run by its first line.
        needles: The encoded forms of the prefix that are relocated in text, too.
    """
    anywhere = [Occurrence(place, len(name)) for name in aliases for place in find_all(data, name)]
    text = is_text(data)
    encoded = find_encoded(data, needles) if text and needles else []
    if not anywhere and not encoded:
        return Canonical()
    found = find_prefix(data, aliases)
    line = first_line(data[:HEAD], aliases) if executable and data[:2] == b"#!" else None
    if text:
        return _text(data, found, encoded, line) if found or encoded else Canonical()
    if data[:2] == b"#!":
        return _script_with_payload(data, found, line) if found else Canonical()
    kind = container(data)
    if kind:
        # the bytes before the prefix may be a length or another member's name
        return Canonical(remarks=(_remark(anywhere, kind),))
    return _strings(data, found)


def container(data: FileData) -> str:
    """Return the format of a binary in which strings can't be changed in place; "" for other binaries."""
    for offset, magic, name in _CONTAINERS:
        if data[offset : offset + len(magic)] == magic:
            return name
    if _PICKLE.match(data[:2]):
        return "pickle"
    return ""


def _remark(found: Sequence[Occurrence], where: str) -> str:
    places = ", ".join(str(occurrence.offset) for occurrence in found[:3]) + (", ..." if len(found) > 3 else "")
    return f"{where}: the build prefix stays at byte {places}"


def _replace(found: Sequence[Occurrence], data: FileData, placeholder: bytes) -> list[Splice]:
    return [Splice(offset, data[offset : offset + length], placeholder) for offset, length in found]


def _stored_offsets(edits: Sequence[Splice]) -> list[int]:
    """Return the offset of each edit's new bytes in the result."""
    offsets, shift = [], 0
    for offset, old, new in edits:
        offsets.append(offset + shift)
        shift += len(new) - len(old)
    return offsets


def _text(
    data: FileData, found: Sequence[Occurrence], encoded: Sequence[Encoded], line: FirstLine | None
) -> Canonical:
    begin = line.end if line is not None else 0
    plain = _behind(found, begin)
    edits = [_direct_line(data, line)] if line is not None else []
    forms: dict[Splice, str] = dict.fromkeys(_replace(plain, data, TEXT), "")
    taken = {place for offset, length in plain for place in range(offset, offset + length)} if encoded else set()
    for offset, length, form in encoded:
        if offset >= begin and taken.isdisjoint(range(offset, offset + length)):
            forms[Splice(offset, data[offset : offset + length], ENCODINGS[form](TEXT))] = form
    edits += sorted(forms)
    places: dict[str, list[int]] = {}
    for splice, offset in zip(edits, _stored_offsets(edits), strict=True):
        places.setdefault(forms.get(splice, "shebang"), []).append(offset)
    text = tuple(places.pop("", ()))
    places.pop("shebang", None)
    shebang = line.shebang if line is not None else None
    coded = tuple((form, tuple(offsets)) for form, offsets in sorted(places.items()))
    return Canonical(tuple(edits), Relocation(TEXT, text=text, encoded=coded, shebang=shebang))


def _direct_line(data: FileData, line: FirstLine) -> Splice:
    return Splice(0, data[: line.end], line.shebang.lead + TEXT + line.shebang.rest)


def _behind(found: Sequence[Occurrence], end: int) -> list[Occurrence]:
    return [occurrence for occurrence in found if occurrence.offset >= end]


def _script_with_payload(data: FileData, found: Sequence[Occurrence], line: FirstLine | None) -> Canonical:
    """Return the stored form of a script with binary data appended.

    In a zipapp the first lines may change their length, as zip files are read from their end. In any other file
    only the first line is changed, and it stays one line.
    """
    if line is not None and data.find(_ZIP_END, max(0, len(data) - _ZIP_END_REACH)) >= 0:
        edits, end = [_direct_line(data, line)], line.end
        relocation = Relocation(TEXT, shebang=line.shebang)
    else:
        end = data.find(b"\n")
        edits = _replace([occurrence for occurrence in found if occurrence.offset < end], data, TEXT)
        relocation = Relocation(TEXT, text=tuple(_stored_offsets(edits)))
    left = _behind(found, end)
    remarks = (_remark(left, "binary data behind a script"),) if left else ()
    return Canonical(tuple(edits), relocation if edits else None, remarks)


def _strings(data: FileData, found: Sequence[Occurrence]) -> Canonical:
    """Return the stored form of a binary with NUL-terminated strings.

    One file has one length of placeholder. A string that holds a longer path of the prefix than another one is
    shortened to the shorter and filled up with NULs at its end, as a deployment would do it.
    """
    strings: list[tuple[list[Occurrence], int]] = []
    left: list[Occurrence] = []
    for occurrence in found:
        if strings and occurrence.offset < strings[-1][1]:
            strings[-1][0].append(occurrence)
            continue
        end = data.find(b"\0", occurrence.offset)
        end = len(data) if end < 0 else end
        if any(map(_NO_STRING.search, in_memory([part(data, occurrence.offset, end)]))):
            left.append(occurrence)
        else:
            strings.append(([occurrence], end))
    remarks = (_remark(left, "data that is no text"),) if left else ()
    if not strings:
        return Canonical(remarks=remarks)
    placeholder = canonical_placeholder(min(length for places, _ in strings for _, length in places))
    edits: list[Splice] = []
    table = []
    for places, end in strings:
        edits += _replace(places, data, placeholder)
        spare = sum(length - len(placeholder) for _, length in places)
        # the string starts at the same offset as before, as does all data outside of strings
        mentions, shift = [], 0
        for offset, length in places:
            mentions.append(BinaryMention(offset - shift, data[offset + length : offset + length + 1]))
            shift += length - len(placeholder)
        table.append(BinaryString(mentions, end - spare))
        if spare:
            edits.append(Splice(end, b"", bytes(spare)))
    return Canonical(tuple(edits), binary_relocation(placeholder, table), remarks)


# --- byte-code ---

_ASCII_KIND = {ord("u"): ord("a"), ord("t"): ord("A"), ord("z"): ord("a"), ord("Z"): ord("A")}
_SHORT_KIND = {ord("a"): ord("z"), ord("A"): ord("Z")}
_FLAG_REF = 0x80


def canonicalise_bytecode(data: bytes, aliases: Sequence[bytes], source: str, renamed: bool = False) -> Canonical:
    """Return the stored form of a pyc: strings of its constants grow, and their lengths with them.

    Args:
        data: The bytes of the pyc.
        aliases: All paths of the prefix.
        source: The path of its source, relative to the prefix.
        renamed: Whether Python gives the code the path of ``source`` when it imports it (Lib/importlib/
            _bootstrap_external.py, _compile_bytecode). If nothing else mentions the prefix, there is nothing to
            relocate then: the name is stored relative to the prefix, as ``envpack build`` compiles it.
    """
    try:
        mentioned = mentions(data, aliases, source)
    except UnparsableError as problem:
        return Canonical(remarks=(f"byte-code that can't be read ({problem}): the build prefix stays",))
    if not mentioned:
        return Canonical()
    name = source.encode("utf-8", "surrogateescape")
    own = [alias + b"/" + name for alias in aliases]
    if renamed and all(data[text:end] in own for (_, text, end), _ in mentioned):
        return Canonical(tuple(_named(data, string, name) for string, _ in mentioned))
    edits: list[Splice] = []
    table, shift = [], 0
    for (start, text, end), places in mentioned:
        growth = sum(len(TEXT) - length for _, length in places)
        rest = data[text:end]
        for offset, length in reversed(places):
            rest = rest[: offset - text] + rest[offset - text + length :]
        kind, length = _stored_kind(data[start], end - text + growth, rest), end - text + growth
        string = [Splice(start, data[start:text], string_head(kind, length))]
        string += _replace([Occurrence(*place) for place in places], data, TEXT)
        table.append((start + shift, kind, length, *(offset + shift for offset in _stored_offsets(string)[1:])))
        shift += sum(len(new) - len(old) for _, old, new in string)
        edits += string
    return Canonical(tuple(edits), Relocation(TEXT, marshal=tuple(table)))


def _named(data: bytes, string: MarshalString, name: bytes) -> Splice:
    """Return the edit that gives the string another text."""
    kind = _stored_kind(data[string.start], len(name), name)
    return Splice(string.start, data[string.start : string.end], string_head(kind, len(name)) + name)


def _stored_kind(kind: int, length: int, rest: bytes) -> int:
    """Return the type byte that CPython would write; the placeholder is ASCII.

    See Python/marshal.c, w_complex_object.
    """
    flag, base = kind & _FLAG_REF, kind & ~_FLAG_REF
    if base != ord("s") and rest.isascii():
        base = _ASCII_KIND.get(base, base)
        if length < 256:
            base = _SHORT_KIND[base]
    return base | flag
