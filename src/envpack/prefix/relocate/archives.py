"""Compressed files and archives, unpacked piece by piece to be searched, as far as they can be read."""

from __future__ import annotations

import bz2
import lzma
import struct
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import IO, Any, NamedTuple, cast

import zstandard
from isal import isal_zlib

from envpack.prefix.magics import BZIP2, GZIP, XZ, ZIP, ZLIB, ZSTD, ends_zip
from envpack.prefix.scan.windowed_file import FileChunk, FileData, part

CHUNK = 1 << 20
"""Maximum bytes of a piece."""

_IGZIP_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub has an instance
_BROKEN = (OSError, EOFError, ValueError, struct.error, lzma.LZMAError, zstandard.ZstdError, _IGZIP_ERROR)


def unpack(data: FileData) -> tuple[str, Iterator[bytes]] | None:
    """Return the kind of a compressed file and its unpacked pieces; None for any other file.

    The pieces of a damaged file end early.
    """
    head = bytes(data[:8])
    if head.startswith(_STREAM_MAGICS):
        kind, pieces = next((kind, pieces) for magic, kind, pieces in _STREAMS if head.startswith(magic))
        return kind, _until_broken(pieces(data))
    if _is_lzma(data[:13]):
        return "lzma file", _until_broken(_lzma(data))
    if _is_lazy_load(head):
        return "R database", _until_broken(_lazy_load(data))
    return None


def is_zip(data: FileData) -> bool:
    """Return whether it is a zip archive, or a script with a zip archive appended."""
    return data[:4] == ZIP or (data[:2] == b"#!" and ends_zip(data))


def is_packed(data: bytes) -> bool:
    """Return whether the beginning of a file is that of an archive or a compressed file that can be unpacked."""
    return data.startswith(_MAGICS) or _is_lzma(data[:13]) or _is_lazy_load(data[:7])


class Member(NamedTuple):
    """A file in a zip archive.

    Attributes:
        name: Its name in the archive.
        stored: Whether the archive holds its bytes uncompressed.
        pieces: Its unpacked bytes, in order.
    """

    name: str
    stored: bool
    pieces: Iterable[bytes]


def zip_members(data: FileData) -> Iterator[Member]:
    """Yield the files in a zip archive that can be unpacked; none for a damaged archive."""
    try:
        with zipfile.ZipFile(_File(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, *_BROKEN):
        return
    for member in members:
        start = member.header_offset
        method = _METHODS.get(member.compress_type)
        if start + 30 > len(data) or method is None or member.flag_bits & 1 or not member.compress_size:
            continue
        name_size, extra_size = struct.unpack("<HH", data[start + 26 : start + 30])
        start += 30 + name_size + extra_size
        body = part(data, start, start + member.compress_size)
        stored = member.compress_type == zipfile.ZIP_STORED
        if member.compress_type == zipfile.ZIP_DEFLATED and member.file_size <= CHUNK:
            # most are small, and there may be tens of thousands of them
            yield Member(member.filename, stored, _small(body, member.file_size))
        else:
            yield Member(member.filename, stored, _until_broken(method(body)))


def _small(body: FileChunk, size: int) -> list[bytes]:
    try:
        return [isal_zlib.decompressobj(-15).decompress(body[:], size or 1)]
    except _IGZIP_ERROR:
        return []


def _until_broken(pieces: Iterable[bytes]) -> Iterator[bytes]:
    with suppress(*_BROKEN):
        yield from pieces


def _pump(make: Callable[[], Any], data: FileChunk) -> Iterator[bytes]:
    """Yield the output of decompressors such as those of bz2, lzma and isal; further members are unpacked too."""
    while data:
        end = yield from _stream(make(), data, 0)
        data = part(data, end, len(data))
        if data and data[0] == 0:  # padding behind the last member
            return


def _stream(decompressor: Any, data: FileChunk, at: int) -> Generator[bytes, None, int]:
    """Yield the output for the input from ``at`` on, and return where the input that was used ends."""
    pending = b""
    while not decompressor.eof:
        if not pending and getattr(decompressor, "needs_input", True):
            pending = bytes(data[at : at + CHUNK])
            at += len(pending)
        piece = decompressor.decompress(pending, CHUNK)
        if not piece and at == len(data) and not decompressor.eof:
            return at
        pending = getattr(decompressor, "unconsumed_tail", b"")
        if piece:
            yield piece
    return at - len(decompressor.unused_data)


_LZMA2 = (b"\x01", *(bytes((control,)) for control in range(0xE0, 0x100)))
"""The first bytes of an LZMA2 stream: a chunk that resets the dictionary (XZ for Java, LZMA2InputStream)."""


def _zlib(data: FileChunk) -> Iterator[bytes]:
    return _pump(lambda: isal_zlib.decompressobj(15), data)


def _is_lazy_load(head: bytes) -> bool:
    return head[4:6] in ZLIB or head[4:7] == b"2BZ" or (head[4:5] == b"Z" and head[5:6] in _LZMA2)


def _lazy_load(data: FileChunk) -> Iterator[bytes]:
    """Yield the unpacked objects of an R database (.rdb): each is its size, perhaps a type, and compressed bytes.

    Source: R, src/main/serialize.c, R_compress1 to R_compress3.
    """
    at = 0
    while at + 6 < len(data):
        kind = bytes(data[at + 4 : at + 5])
        at += 5 if kind in (b"2", b"Z") else 4
        at = yield from _stream(_decompressor_of(kind), data, at)


def _decompressor_of(kind: bytes) -> Any:
    if kind == b"2":
        return bz2.BZ2Decompressor()
    if kind == b"Z":
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
    return isal_zlib.decompressobj(15)


def _gzip(data: FileChunk) -> Iterator[bytes]:
    return _pump(lambda: isal_zlib.decompressobj(31), data)


def _bzip2(data: FileChunk) -> Iterator[bytes]:
    return _pump(bz2.BZ2Decompressor, data)


def _xz(data: FileChunk) -> Iterator[bytes]:
    return _pump(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), data)


def _is_lzma(head: bytes) -> bool:
    """Return whether a file begins as those of lzma(1) do; the size is below a terabyte, or not known."""
    return head[:3] == b"\x5d\0\0" and len(head) == 13 and (head[5:] == b"\xff" * 8 or head[10:] == b"\0" * 3)


def _lzma(data: FileChunk) -> Iterator[bytes]:
    return _pump(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE), data)


def _lzma_member(data: FileChunk) -> Iterator[bytes]:
    """Yield the unpacked bytes of a zip member: a version, a size, the properties, a stream (APPNOTE, 5.8.8)."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    yield decompressor.decompress(bytes(data[4:9]) + b"\xff" * 8, CHUNK)
    yield from _stream(decompressor, data, 9)


def _zstd(data: FileChunk) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    with decompressor.stream_reader(cast(IO[bytes], _File(data)), read_across_frames=True) as reader:
        while piece := reader.read(CHUNK):
            yield piece


_STREAMS: tuple[tuple[bytes, str, Callable[[FileChunk], Iterator[bytes]]], ...] = (
    (GZIP + b"\x08", "gzip file", _gzip),
    (BZIP2, "bzip2 file", _bzip2),
    (XZ, "xz file", _xz),
    (ZSTD, "zstandard file", _zstd),
    *((magic, "zlib stream", _zlib) for magic in ZLIB),
)

_STREAM_MAGICS = tuple(magic for magic, *_ in _STREAMS)
_MAGICS = (ZIP, *_STREAM_MAGICS)

_METHODS: dict[int, Callable[[FileChunk], Iterator[bytes]]] = {
    zipfile.ZIP_STORED: lambda data: (bytes(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)),
    zipfile.ZIP_DEFLATED: lambda data: _pump(lambda: isal_zlib.decompressobj(-15), data),
    zipfile.ZIP_BZIP2: _bzip2,
    zipfile.ZIP_LZMA: _lzma_member,
    93: _zstd,
}
"""Decompressors by the compression methods of PKWARE's APPNOTE, 4.4.5."""


class _File:
    """A file object that reads from bytes in memory or a `WindowedFile`, without a copy of all of them."""

    def __init__(self, data: FileChunk) -> None:
        self._data, self._at = data, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise OSError("before the start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._data[self._at :] if size < 0 else self._data[self._at : self._at + size])
        self._at += len(data)
        return data
