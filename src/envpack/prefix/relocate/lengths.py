"""Formats that store lengths or checksums of their contents, so that no string in them can change its length."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from envpack.prefix.magics import BZIP2, GZIP, TAR, TAR_OFFSET, XZ, ZIP, ZLIB, ZSTD
from envpack.prefix.relocate.occurrences import Occurrence
from envpack.prefix.scan.windowed_file import FileData

_CONTAINERS = (
    (0, ZIP, "zip archive"),
    (0, GZIP, "gzip file"),
    (0, BZIP2, "bzip2 file"),
    (0, XZ, "xz file"),
    (0, ZSTD, "zstandard file"),
    *((0, magic, "zlib stream") for magic in ZLIB),
    (0, b"\x04\x22\x4d\x18", "LZ4 file"),
    (0, b"\xff\x06\0\0sNaPpY", "Snappy file"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (TAR_OFFSET, TAR, "tar archive"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"\xca\xfe\xba\xbe", "Java class"),
    (0, b"\0asm", "WebAssembly module"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (0, b"PAR1", "Parquet file"),
    (0, b"\x93NUMPY", "NumPy array"),
)
"""Binary formats: (offset, bytes there, name), as file(1) identifies them."""

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_R_TEXT = re.compile(rb"A\r?\n[23]\r?\n")
_RUBY = b"\x04\x08"
"""The version of Ruby's Marshal, 4.8, which each of its files begins with."""
_REACH = 4096
# PHP's serialize() writes s:12:"...";
_PHP = re.compile(rb's:([0-9]{1,7}):"')
# A number before a path is its length only in a file of such strings: text has a.py:12:/opt and /lib64:/opt, too.
_NETSTRING = re.compile(rb"([0-9]{1,7}):")
_NETSTRING_END = re.compile(rb",(?:[\r\n]|[0-9]{1,7}:|\Z)")
_BENCODE = re.compile(rb"[dle]|i-?[0-9]{1,20}e|([0-9]{1,7}):")
_BENCODE_END = re.compile(rb"[dlei0-9]|\Z")
_LONGEST_TOKEN = 24
# Bytes that file(1) does not expect in text.
_CONTROL = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_NO_STRING = re.compile(rb"[\x00-\x1f\x7f\"']")
_AROUND = 64
_TWO_BYTES = (b"\xda", b"\xc5", b"\x79", b"\x59")
"""What precedes a length of two bytes: MessagePack's str 16 and bin 16, CBOR's strings."""
_MESSAGEPACK, _CBOR = (b"\xd9", b"\xc4"), (b"\x78", b"\x58")
"""What precedes a length of one byte: MessagePack's str 8 and bin 8, CBOR's strings (RFC 8949, section 3)."""
_BEFORE_PATHS = tuple(bytes((byte,)) for byte in b"\t\n\r (=:")
"""What is before a path in text, also behind a letter with the byte of a mark, as in KOI8-R."""
_FIXSTR, _FIXSTR_LENGTH = range(0xA0, 0xC0), 0x1F
_CBOR_TAG = b"\xd9\xd9\xf7"
"""What a file of CBOR may begin with, before its array or map (RFC 8949, section 3.4.6)."""
_STRINGS, _ARRAY, _MAP, _TAG, _BREAK = (2, 3), 4, 5, 6, 7
"""Major types of CBOR (RFC 8949, section 3.1 and 3.2)."""
_DEEPEST = 256
# A field of Protocol Buffers: a tag, and a number or length behind it, both as varints.
_FIELD = re.compile(rb"([\x80-\xff]{0,4}[\x01-\x7f])([\x80-\xff]{0,9}[\x01-\x7f])?")
_LONGEST_FIELD = 15
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}
"""Its wire types, and the sizes of two: <https://protobuf.dev/programming-guides/encoding/#structure>."""


def container(data: FileData) -> str:
    """Return the format of a binary in which strings can't be changed in place; "" for other binaries."""
    for offset, magic, name in _CONTAINERS:
        if data[offset : offset + len(magic)] == magic:
            return name
    if _PICKLE.match(data[:2]):
        return "pickle"
    return ""


def text_with_lengths(data: FileData, mentions: Sequence[Occurrence]) -> str:
    """Return the format of a file without NUL that stores the lengths of its strings; "" for plain text.

    Args:
        data: The file.
        mentions: Where the prefix is in it.
    """
    if _R_TEXT.match(data[:6]):
        return "serialized R object"
    if data[:2] == _RUBY:
        return "serialized Ruby object"
    if mentions and _in_decimal(data, min(mentions)):
        return "serialized text with the lengths of its strings"
    if _is_messagepack(data) or _are_in(_of_cbor(data), mentions) or _are_in(_of_protocol_buffers(data), mentions):
        return "serialized data with the lengths of its strings"
    for offset, length in mentions:
        begin = data[max(0, offset - _REACH) : offset]
        if _in_php(data, begin, offset, length):
            return "serialized text with the lengths of its strings"
        if _in_binary(data, begin, offset, length):
            return "serialized data with the lengths of its strings"
    return ""


def _in_decimal(data: FileData, first: Occurrence) -> bool:
    """Return whether the first mention is in a string of a file of netstrings, or of one in bencode (BEP 3)."""
    bencode = data[:1] in (b"d", b"l")
    token, behind = (_BENCODE, _BENCODE_END) if bencode else (_NETSTRING, _NETSTRING_END)
    at = 0
    while at <= first.offset:
        found = token.match(data[at : at + _LONGEST_TOKEN])
        if found is None:
            return False
        at += found.end()
        if found[1]:
            start, at = at, at + int(found[1])
            if at > len(data) or not behind.match(data[at : at + _LONGEST_TOKEN]):
                return False
            if start <= first.offset and first.offset + first.length <= at:
                return True
            at += 0 if bencode else len(b",")
    return False


def _in_php(data: FileData, begin: bytes, offset: int, length: int) -> bool:
    """Return whether a mention is in a string of PHP's serialize(); ``begin``: what precedes the mention."""
    for match in _PHP.finditer(begin):
        end = offset - len(begin) + match.end() + int(match[1])
        if end >= offset + length and data[end : end + 2] == b'";':
            return True
    return False


def _is_messagepack(data: FileData) -> bool:
    """Return whether a file is a map of MessagePack whose first key is a short text: no text begins so."""
    head = data[:_AROUND]
    if not 0x80 < head[0] < 0x90 or len(head) < 2 or head[1] not in _FIXSTR:
        return False
    end = 2 + (head[1] & _FIXSTR_LENGTH)
    key, value = head[2:end], head[end : end + 1]
    if not len(key) == end - 2 > 0 or not key.isascii() or not key.decode().isprintable():
        return False
    return value > b"\x7f" or _CONTROL.match(value) is not None


def _are_in(strings: Sequence[range] | None, mentions: Sequence[Occurrence]) -> bool:
    """Return whether each mention is in one of the strings of a file, which are in order; None: it has none."""
    if strings is None:
        return False
    starts = [string.start for string in strings]
    places = ((bisect_right(starts, offset) - 1, offset + length) for offset, length in mentions)
    return all(place >= 0 and end <= strings[place].stop for place, end in places)


def _of_cbor(data: FileData) -> Sequence[range] | None:
    """Return the strings of a file that is one array or map of CBOR, up to its last byte; None for others."""
    strings: list[range] = []
    at = len(_CBOR_TAG) if data[: len(_CBOR_TAG)] == _CBOR_TAG else 0
    if not b"\x80" <= data[at : at + 1] < b"\xc0":
        return None
    missing = [1]  # items in each array or map around ``at``; negative for those that end at a break
    while at < len(data) and 0 < len(missing) < _DEEPEST:
        head = data[at : at + 9]
        major, value = head[0] >> 5, head[0] & 0x1F
        size = 1 << value - 24 if 24 <= value < 28 else 0
        at += 1 + size
        missing[-1] -= 1
        if value < 28:
            value = int.from_bytes(head[1 : 1 + size], "big") if size else value
            if major in _STRINGS:
                strings.append(range(at, at + value))
                at += value
            missing.append({_ARRAY: value, _MAP: 2 * value, _TAG: 1}.get(major, 0))
        elif major != _BREAK:
            missing.append(-1)
        elif missing.pop() >= 0:
            return None
        while missing and not missing[-1]:
            missing.pop()
    return strings if not missing and at == len(data) else None


def _of_protocol_buffers(data: FileData) -> Sequence[range] | None:
    """Return the strings of one message of Protocol Buffers with a tag or length that no text has, else None."""
    strings: list[range] = []
    at, control = 0, False
    while at < len(data):
        field = _FIELD.match(data[at : at + _LONGEST_FIELD])
        if field is None:
            return None
        tag = _varint(field[1])
        wire_type = tag & 7
        if wire_type in _FIXED:
            at += len(field[1]) + _FIXED[wire_type]
        elif wire_type in (_VARINT, _LENGTH) and field[2]:
            at += len(field[0])
            control = control or _CONTROL.search(field[0]) is not None
            if wire_type == _LENGTH:
                strings.append(range(at, at + _varint(field[2])))
                at = strings[-1].stop
        else:
            return None
    return strings if control and at == len(data) else None


def _varint(data: bytes) -> int:
    """Return the number whose bytes have seven bits each, the lowest first."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))


def _in_binary(data: FileData, begin: bytes, offset: int, length: int) -> bool:
    """Return whether the length of a mention's string is in the bytes before it, in a file that is no text.

    Args:
        data: The file.
        begin: What precedes the mention.
        offset: The offset of the mention.
        length: Its length.
    """
    if _is_string(data, offset, length, _long_length(begin[-3:])):
        return True
    size, mark = int.from_bytes(begin[-1:], "big"), begin[-2:-1]
    if size in _FIXSTR and mark not in _MESSAGEPACK + _CBOR:
        size &= _FIXSTR_LENGTH
    if not _is_string(data, offset, length, size):
        return False
    behind = data[offset + size : offset + size + _AROUND]
    if mark in _MESSAGEPACK and begin[-1:] not in _BEFORE_PATHS:
        around = begin[-_AROUND:]
        return bool(_CONTROL.search(around) or _CONTROL.search(behind)) or not _is_utf_8(around)
    # what is farther away may be text: Info files and Vim's scripts have such bytes, too
    return bool(_CONTROL.search(mark + behind[:2])) and (mark in _CBOR or not behind[:1].isalnum())


def _is_string(data: FileData, offset: int, length: int, size: int) -> bool:
    """Return whether a string of a size begins at an offset, and is at least ``length`` bytes long."""
    inside = length <= size <= len(data) - offset
    return inside and _NO_STRING.search(data[offset : offset + size]) is None


def _long_length(before: bytes) -> int:
    """Return the length in the two bytes before a string; 0 where one of them may be text.

    It is big-endian behind a mark of its own, else a varint of Protocol Buffers.
    """
    if len(before) < 3:
        return 0
    mark, first, second = before[:1], before[1], before[2]
    if mark in _TWO_BYTES and _CONTROL.match(before[1:]):
        return first << 8 | second
    return first & 0x7F | second << 7 if first > 0x7F and _CONTROL.match(before[2:]) else 0


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
