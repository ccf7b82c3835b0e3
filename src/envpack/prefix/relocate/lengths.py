"""Formats that store lengths or checksums of their contents, so that no string in them can change its length."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envpack.prefix.magics import BZIP2, GZIP, TAR, TAR_OFFSET, XZ, ZIP, ZSTD
from envpack.prefix.relocate.occurrences import Occurrence
from envpack.prefix.scan.windowed_file import FileData

_CONTAINERS = (
    (0, ZIP, "zip archive"),
    (0, GZIP, "gzip file"),
    (0, BZIP2, "bzip2 file"),
    (0, XZ, "xz file"),
    (0, ZSTD, "zstandard file"),
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
_REACH = 4096
# The length of a string in decimal digits: netstrings and bencode (12:...), PHP's serialize() (s:12:"...").
_DECIMAL = re.compile(rb"(?<![0-9.])(?:s:)?([0-9]{1,7}):(\"?)")
_DECIMAL_END = re.compile(rb"[,dlei0-9]|\Z")
# Bytes that file(1) does not expect in text.
_CONTROL = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_NO_STRING = re.compile(rb"[\x00-\x1f\x7f\"']")
_AROUND = 64
_MESSAGEPACK, _CBOR = (b"\xd9", b"\xc4"), (b"\x78", b"\x58")
"""What precedes a length of one byte: MessagePack's str 8 and bin 8, CBOR's strings (RFC 8949, section 3)."""
_FIXSTR, _FIXSTR_LENGTH = range(0xA0, 0xC0), 0x1F


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
    for offset, length in mentions:
        begin = data[max(0, offset - _REACH) : offset]
        line = begin[begin.rfind(b"\n") + 1 :]
        if _in_decimal(data, line, offset, length):
            return "serialized text with the lengths of its strings"
        if _in_binary(data, begin, offset, length):
            return "serialized data with the lengths of its strings"
    return ""


def _in_decimal(data: FileData, line: bytes, offset: int, length: int) -> bool:
    """Return whether a mention is in a string with its length before it; ``line``: what precedes the mention."""
    for match in _DECIMAL.finditer(line):
        start = offset - len(line) + match.end()
        end = start + int(match[1])
        if end < offset + length:
            continue
        behind = data[end : end + 1]
        if match[2] and behind == b'"' and match[0].startswith(b"s:"):
            return True
        if not match[2] and start == offset and end <= len(data) and _DECIMAL_END.match(behind):
            return True
    return False


def _in_binary(data: FileData, begin: bytes, offset: int, length: int) -> bool:
    """Return whether the length of a mention's string is in the byte before it, in a file that is no text.

    Args:
        data: The file.
        begin: What precedes the mention.
        offset: The offset of the mention.
        length: Its length.
    """
    size, mark = int.from_bytes(begin[-1:], "big"), begin[-2:-1]
    if size in _FIXSTR and mark not in _MESSAGEPACK + _CBOR:
        size &= _FIXSTR_LENGTH
    if size < length or offset + size > len(data) or _NO_STRING.search(data[offset : offset + size]):
        return False
    behind = data[offset + size : offset + size + _AROUND]
    controls = bool(_CONTROL.search(begin[-_AROUND:]) or _CONTROL.search(behind))
    if mark in _MESSAGEPACK:
        return controls or not _is_utf_8(begin[-_AROUND:])
    return controls and (mark in _CBOR or not behind[:1].isalnum())


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
