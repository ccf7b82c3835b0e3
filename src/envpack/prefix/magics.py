"""The bytes by which file formats are recognised, as file(1) recognises them."""

from __future__ import annotations

from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.format.codec import CODECS

ELF = b"\x7fELF"
AR = b"!<arch>\n"
"""A static library (ar(5))."""

GZIP, ZSTD = (next(codec.magic for codec in CODECS if codec.name == name) for name in ("gzip", "zstd"))
BZIP2 = b"BZh"
XZ = b"\xfd7zXZ\0"
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""A zlib stream with the usual window (RFC 1950), by level of compression."""

ZIP, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
"""The header of the first member of a zip archive, and the end of its central directory (PKWARE APPNOTE 4.3.7 and
4.3.16). An archive without members begins with the latter.
"""
_ZIP_END_REACH = 22 + 65535
"""Maximum distance of the end of the central directory from the end of a file, in bytes."""

TAR, TAR_OFFSET = b"ustar", 257
"""The magic of a tar header and its offset in bytes; archives of v7 have none."""


def is_elf64(head: bytes) -> bool:
    """Return whether the first 6 bytes of a file are those of an ELF file of 64 bits (gABI, chapter 4)."""
    return head[:5] == ELF + b"\2" and head[5:6] in (b"\1", b"\2")


def ends_zip(data: FileData) -> bool:
    """Return whether a file is a zip archive, or ends with one that was appended to it."""
    return data.find(ZIP_END, max(0, len(data) - _ZIP_END_REACH)) >= 0
