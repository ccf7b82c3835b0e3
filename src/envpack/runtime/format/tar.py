"""The tar entries of a bundle: exactly one byte sequence for each path record.

GNU format (https://www.gnu.org/software/tar/manual/html_node/Standard.html): long names as `L`/`K` members and
sizes over 8 GiB in base 256, which GNU tar, bsdtar, busybox and Python all read, and which preserves names that
are not UTF-8. Because the bytes of an entry follow from its record, reading a bundle needs no tar parser: the
reader generates the same bytes and compares them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from envpack.runtime.errors import FormatError
from envpack.runtime.format.layout import HEAD_PATHS
from envpack.runtime.format.manifest import PathRecord

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end-of-archive marker: two blocks of NULs."""

_TYPES = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}
_LINK_MODES = {"hardlink": 0o644, "symlink": 0o777}  # readers ignore the mode of a link, and its record has none
_OCTAL_SIZE_LIMIT = 1 << 33
_OCTAL = re.compile(rb"[0-7]{11}\0")


def padding(size: int) -> int:
    """Return the number of NULs that follow ``size`` bytes of data to fill the last block."""
    return -size % BLOCK


def header(record: PathRecord) -> bytes:
    """Return the part of the record's tar entry before its data: a multiple of 512 bytes."""
    name = _encode(record.path) + (b"/" if record.type == "directory" else b"")
    link = _encode(record.target)
    before = b""
    if len(link) > 100:
        before += _long(b"K", link)
        link = link[:100]
    if len(name) > 100:
        before += _long(b"L", name)
        name = name[:100]
    mode = _LINK_MODES.get(record.type, record.mode)
    size = record.size if record.type == "file" else 0
    return before + _block(name, mode, size, record.mtime, _TYPES[record.type], link)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _long(kind: bytes, name: bytes) -> bytes:
    data = name + b"\0"
    return _block(b"././@LongLink", 0o644, len(data), 0, kind, b"") + data + bytes(padding(len(data)))


def _block(name: bytes, mode: int, size: int, mtime: int, kind: bytes, link: bytes) -> bytes:
    coded_size = b"%011o\0" % size if size < _OCTAL_SIZE_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = b"%07o\0%07o\0%07o\0%b%011o\0" % (mode, 0, 0, coded_size, mtime)
    tail, tail_sum = _tail(kind, link)
    checksum = sum(name) + sum(fields) + tail_sum + 8 * 32
    return b"%b%b%06o\0 %b" % (name.ljust(100, b"\0"), fields, checksum, tail)


@lru_cache(maxsize=64)
def _tail(kind: bytes, link: bytes) -> tuple[bytes, int]:
    """Return the part of a header block after the checksum, and the sum of its bytes."""
    tail = (kind + link.ljust(100, b"\0") + b"ustar  \0").ljust(BLOCK - 156, b"\0")
    return tail, sum(tail)


def first_entries(stream: bytes) -> list[tuple[str, bytes]]:
    """Return the names and data of the regular files at the start of an uncompressed tar stream.

    This is for the first frame of a bundle only, in which all entries are plain files with short names.

    Raises:
        FormatError: the stream has any other entry, or ends within one.
    """
    entries: list[tuple[str, bytes]] = []
    position = 0
    while position < len(stream) and len(entries) <= len(HEAD_PATHS):
        block = stream[position : position + BLOCK]
        if not _OCTAL.match(block, 124):
            raise FormatError("not a bundle: it does not begin with a tar archive")
        size = int(block[124:135], 8)
        start = position + BLOCK
        record = PathRecord(
            block[:100].rstrip(b"\0").decode("utf-8", "surrogateescape"), "file", mode=0o644, size=size
        )
        if block != header(record) or start + size + padding(size) > len(stream):
            raise FormatError("not a bundle: the archive does not begin with a manifest of envpack")
        entries.append((record.path, stream[start : start + size]))
        position = start + size + padding(size)
    return entries
