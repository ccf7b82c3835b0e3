"""The entries of a zip archive, by envpack's own rules: Python's ``zipfile`` refuses more in each patch release.

The format is that of PKWARE's APPNOTE 6.3.10 (its sections are cited), with zip64, and files stored or deflated.
The central directory is authoritative. What contradicts it is damage: local headers, end records, entries that
share bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from isal import isal_zlib

from envpack.prefix.magics import ZIP, ZIP_END
from envpack.runtime.errors import IntegrityError

_PIECE = 1 << 20
_READ_SIZE = 64 << 10
_MAX_DIRECTORY_SIZE = 256 << 20
"""Most bytes of the central directory: a million files of 200 bytes of path."""

_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_MAX_COMMENT_SIZE = (1 << 16) - 1
_IN_ZIP64 = (1 << 16) - 1, (1 << 32) - 1  # value of a field that is in zip64's field (4.4.1.4)

_ENCRYPTED, _DATA_DESCRIPTOR, _UTF8 = 0x2041, 0x8, 0x800  # 4.4.4
_UNIX = 3  # 4.4.2.2
_STORED, _DEFLATED = 0, 8  # 4.4.5
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075  # 4.5.3, 4.6.9

_ISAL_ERROR: Any = isal_zlib.error


class Entry(NamedTuple):
    """A file, folder or link.

    Args:
        path: The name as text.
        name: The name as stored.
        mode: Type and permissions as stat has them, 0 where none is stated.
        size: Bytes unpacked.
        stored: Bytes in the archive.
        crc: CRC-32 of the unpacked bytes.
        method: The compression method (4.4.5).
        flags: The general purpose flags (4.4.4).
        date: Year to second, in an unknown time zone.
        offset: Offset of the local header in the file.
        end: Offset at which the next entry, or the central directory, starts.
    """

    path: str
    name: bytes
    mode: int
    size: int
    stored: int
    crc: int
    method: int
    flags: int
    date: tuple[int, int, int, int, int, int]
    offset: int
    end: int = 0


def read_entries(file: BinaryIO) -> list[Entry]:
    """Return the entries of the archive, in the directory's order.

    Raises:
        IntegrityError: The archive is damaged.
    """
    count, start, end = _find_directory(file)
    file.seek(start)
    data = file.read(end - start)
    entries = []
    at = 0
    while at < len(data):
        entry, at = _entry(data, at)
        entries.append(entry)
    if len(entries) != count:
        raise IntegrityError(f"damaged: the archive has {len(entries)} entries, but states {count}")
    return _with_ends(entries, start)


def _find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Return the number of entries in the central directory, and the offsets of its start and end."""
    length = file.seek(0, os.SEEK_END)
    reach = min(length, _MAX_COMMENT_SIZE + _END.size + _LOCATOR.size)
    file.seek(length - reach)
    tail = file.read(reach)
    at = tail.rfind(ZIP_END)
    if at < 0 or at + _END.size > len(tail):
        raise IntegrityError("the archive is truncated: the central directory is missing")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise IntegrityError("damaged: the end of the central directory is at the wrong position")
    end = length - reach + at
    stated = [disk, first_disk, here, count, size, start]
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, _, end64, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        wide = _read_end64(file, end64, end - _LOCATOR.size)
        if any(narrow not in (value, *_IN_ZIP64) for narrow, value in zip(stated, wide, strict=True)):
            raise IntegrityError("damaged: the end records of zip and zip64 contradict each other")
        stated, end = wide, end64
    disk, first_disk, here, count, size, start = stated
    if disk or first_disk or here != count:
        raise IntegrityError("the archive is one part of a split archive")
    if start + size != end or size > _MAX_DIRECTORY_SIZE:
        raise IntegrityError("damaged: the central directory is at the wrong position")
    return count, start, end


def _read_end64(file: BinaryIO, at: int, end: int) -> list[int]:
    file.seek(min(at, end))
    data = file.read(_END64.size)
    if len(data) < _END64.size or not data.startswith(b"PK\6\6"):
        raise IntegrityError("damaged: the end record of zip64 is at the wrong position")
    _, size, _, _, *stated = _END64.unpack(data)
    if at + 12 + size != end:  # 4.3.14.1: without the first two fields
        raise IntegrityError("damaged: the end record of zip64 is at the wrong position")
    return stated


def _entry(data: bytes, at: int) -> tuple[Entry, int]:
    """Return the entry at an offset in the directory, and the offset of the next one."""
    if at + _CENTRAL.size > len(data) or not data.startswith(b"PK\1\2", at):
        raise IntegrityError("damaged: an entry of the central directory is invalid")
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, time, date, crc, stored, size, name_size, extra_size, comment_size = fields[3:13]
    _, _, attributes, offset = fields[13:]
    at += _CENTRAL.size
    name, extra = data[at : at + name_size], data[at + name_size : at + name_size + extra_size]
    at += name_size + extra_size + comment_size
    if at > len(data):
        raise IntegrityError("damaged: an entry of the central directory is truncated")
    extras = _extras(extra) if extra else {}
    if (1 << 32) - 1 in (size, stored, offset):
        size, stored, offset = _zip64_values((size, stored, offset), extras.get(_ZIP64, b""))
    day = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2)
    path = _path(name, flags, fields[1] >> 8, extras.get(_UNICODE_PATH, b""))
    return Entry(path, name, attributes >> 16, size, stored, crc, method, flags, day, offset), at


def _extras(data: bytes) -> dict[int, bytes]:
    """Return the extra fields by their number (4.5.1)."""
    found = {}
    while data:
        key, size = struct.unpack_from("<HH", data) if len(data) >= 4 else (0, len(data))
        if 4 + size > len(data) or key in found:
            raise IntegrityError("damaged: the extra fields of an entry are invalid")
        found[key] = data[4 : 4 + size]
        data = data[4 + size :]
    return found


def _zip64_values(fields: tuple[int, ...], extra: bytes) -> list[int]:
    """Return the fields with values from zip64's extra field, which has only those, in this order (4.5.3)."""
    wide = []
    for field in fields:
        if field == (1 << 32) - 1:
            if len(extra) < 8:
                raise IntegrityError("damaged: the zip64 field of an entry is truncated")
            field, extra = int.from_bytes(extra[:8], "little"), extra[8:]
        wide.append(field)
    return wide


def _path(name: bytes, flags: int, system: int, unicode_path: bytes) -> str:
    """Return the name as text.

    It is UTF-8 where a flag or the Unicode path field says so; on Unix the name as stored, as Info-ZIP's unzip
    reads it; else code page 437 (appendix D).
    """
    try:
        if flags & _UTF8:
            return name.decode("utf-8")
        if unicode_path[:1] == b"\1" and unicode_path[1:5] == struct.pack("<L", isal_zlib.crc32(name)):
            return unicode_path[5:].decode("utf-8")
    except UnicodeDecodeError:
        raise IntegrityError(f"damaged: the name {name!r} is not UTF-8") from None
    return name.decode("utf-8", "surrogateescape") if system == _UNIX else name.decode("cp437")


def _with_ends(entries: list[Entry], directory: int) -> list[Entry]:
    """Return the entries with their ends; raise IntegrityError where two share bytes, as in a zip bomb."""
    places = [*sorted(entry.offset for entry in entries), directory]
    ends = dict(reversed(list(pairwise(places))))  # of two at one offset, the first ends there
    bounded = [entry._replace(end=ends[entry.offset]) for entry in entries]
    for entry in bounded:
        if entry.offset + _LOCAL.size + len(entry.name) + entry.stored > entry.end:
            raise IntegrityError(f"damaged: {entry.path!r} overlaps the next entry")
    return bounded


def read_data(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of an entry, unpacked, in pieces of bounded size.

    Raises:
        IntegrityError: The bytes are damaged, encrypted, compressed by an unknown method or not as long as stated,
            or the local header contradicts the directory.
    """
    if entry.flags & _ENCRYPTED:
        raise IntegrityError(f"{entry.path!r} is encrypted")
    stored = _stored(file, _data_offset(file, entry), entry.stored)
    if entry.method not in (_STORED, _DEFLATED):
        raise IntegrityError(f"{entry.path!r} is compressed with the unknown method {entry.method}")
    left, crc = entry.size, 0
    for piece in stored if entry.method == _STORED else _inflated(stored, entry):
        left -= len(piece)
        crc = isal_zlib.crc32(piece, crc)
        if left < 0:
            break
        yield piece
    if left:
        raise IntegrityError(f"damaged: {entry.path!r} does not have the stated size")
    if crc != entry.crc:
        raise IntegrityError(f"damaged: the checksum of {entry.path!r} does not match")


def _data_offset(file: BinaryIO, entry: Entry) -> int:
    file.seek(entry.offset)
    head = file.read(_LOCAL.size + len(entry.name))
    if len(head) < _LOCAL.size or not head.startswith(ZIP):
        raise IntegrityError(f"damaged: {entry.path!r} has no header")
    _, _, flags, method, _, _, crc, stored, size, name_size, extra_size = _LOCAL.unpack_from(head)
    same = head[_LOCAL.size :] == entry.name and name_size == len(entry.name) and method == entry.method
    known = not flags & _DATA_DESCRIPTOR and _IN_ZIP64[1] not in (stored, size)
    if known and (crc, stored, size) != (entry.crc, entry.stored, entry.size):
        same = False
    if not same or (flags ^ entry.flags) & (_ENCRYPTED | _UTF8):
        raise IntegrityError(f"damaged: the header of {entry.path!r} contradicts the central directory")
    start = entry.offset + _LOCAL.size + name_size + extra_size
    if start + entry.stored > entry.end:
        raise IntegrityError(f"damaged: {entry.path!r} overlaps the next entry")
    return int(start)


def _stored(file: BinaryIO, at: int, size: int) -> Iterator[bytes]:
    """Yield the bytes as stored in the archive; others may seek in the file between two pieces."""
    end = at + size
    while at < end:
        file.seek(at)
        data = file.read(min(_READ_SIZE, end - at))
        if not data:
            raise IntegrityError("the archive is truncated")
        at += len(data)
        yield data


def _inflated(stored: Iterator[bytes], entry: Entry) -> Iterator[bytes]:
    decoder = isal_zlib.decompressobj(-15)
    try:
        for data in stored:
            if decoder.eof:
                raise IntegrityError(f"damaged: there is unexpected data after {entry.path!r}")
            while data and not decoder.eof:
                if piece := decoder.decompress(data, _PIECE):
                    yield piece
                data = decoder.unconsumed_tail
        while not decoder.eof and (piece := decoder.decompress(b"", _PIECE)):
            yield piece
    except _ISAL_ERROR as problem:
        raise IntegrityError(f"damaged: {entry.path!r}: {problem}") from None
    if not decoder.eof or decoder.unused_data:
        raise IntegrityError(f"damaged: the data of {entry.path!r} ends at the wrong position")
