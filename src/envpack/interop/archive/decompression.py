"""Compressed files as streams: unpacked piece by piece, in bounded memory, and valid only when read to the end."""

from __future__ import annotations

import bz2
import lzma
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import zstandard
from isal import isal_zlib

from envpack.bundle.codecs import LIBRARIES
from envpack.interop.archive.tar_headers import is_header
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.codec import CODECS, Codec
from envpack.runtime.format.layout import MANIFEST_PATH


class Format(NamedTuple):
    """A format of archives.

    Attributes:
        name: Its short name.
        codec: The name of the compression.
        magics: The first bytes of a file, one of these; none for tar.
        suffixes: The suffixes of files, without an ``.tar`` before.
        decompressor: For a compressed tar archive: return an object that decompresses it, with zlib's interface.
    """

    name: str
    codec: str
    magics: tuple[bytes, ...]
    suffixes: tuple[str, ...]
    decompressor: Callable[[], Any] | None = None


_XZ_MEMORY = 256 << 20
"""Most bytes of memory for xz; xz -9 needs 65 MiB (xz(1), "Preset")."""


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _of_bundles(codec: Codec) -> Format:
    suffixes = tuple(f".{suffix.rpartition('.')[2]}" for suffix in codec.suffixes)
    return Format(codec.format, codec.name, (codec.magic,), suffixes, LIBRARIES[codec.name].stream)


FORMATS = (
    *map(_of_bundles, CODECS),
    Format("bz2", "bzip2", (b"BZh",), (".bz2", ".tbz2"), bz2.BZ2Decompressor),
    Format("xz", "xz", (b"\xfd7zXZ\0",), (".xz", ".txz"), _xz),
    Format("zip", "deflate", (b"PK\x03\x04", b"PK\x05\x06"), (".zip",)),
    Format("tar", "none", (), (".tar", ".parcel")),
)
"""The formats of archives that are read. Bundles have the first ones. Sources of the other magics: the formats of
bzip2 and xz, and PKWARE's APPNOTE, 4.3.
"""

_DECOMPRESSORS = {known.name: known.decompressor for known in FORMATS if known.decompressor is not None}

CHECKSUMS = {
    "gz": "CRC-32 of the whole stream",
    "bz2": "CRC-32 of every block",
    "xz": "a check of every block",
    "zip": "CRC-32 of every file",
}
"""The checksums of each format; conda-pack writes zst without its checksum."""

_PIECE = 1 << 20
_READ = 256 << 10
_READ_ZSTD = 4 << 10
"""Bytes read at once: zstandard unpacks all of them, and 4 bytes may become 128 KiB (RFC 8878, 3.1.1.2)."""

_ISAL_ERROR: Any = isal_zlib.error
_DAMAGE: tuple[type[Exception], ...] = (
    zlib.error,
    _ISAL_ERROR,
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
    ValueError,
)

GENEROUS = 1 << 30
RATIO = 100
"""An archive that unpacks to more than RATIO times its size and GENEROUS bytes is taken for a decompression bomb:
conda environments compress 2 to 6 times.
"""


def format_of(path: Path) -> str:
    """Return "gz", "zst", "bz2", "xz", "zip" or "tar" by the file's first bytes, "" for anything else.

    Raises:
        FormatError: The file can't be read, or is no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for its writer
            raise FormatError(f"{path} is no file", hint="Give the path of a bundle.")
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint="Give the path of a bundle.") from None
    for known in FORMATS:
        if start.startswith(known.magics):
            return known.name
    return "tar" if _begins_tar(start) else ""


def _begins_tar(block: bytes) -> bool:
    """Return whether a block starts a tar archive: by its mark or, as v7 has none, by its checksum."""
    return block[257:262] == b"ustar" or is_header(block)


def most_unpacked(stored: int) -> int:
    """Return the most bytes that an archive of ``stored`` bytes may unpack to."""
    return max(GENEROUS, RATIO * stored)


class Unpacked:
    """The unpacked bytes of a compressed file, to be read once: ``seek`` goes forward only.

    Args:
        file: The compressed file.
        codec: Its format, as `format_of` returns it.
        limit: Most bytes that it may unpack to.
        advance: Called with the number of bytes of the file that were read since the last call.

    Raises:
        IntegrityError: On reading: the data is damaged, ends too early, or unpacks to more than ``limit``.
    """

    def __init__(self, file: BinaryIO, codec: str, limit: int, advance: Callable[[int], None]) -> None:
        self._file, self._codec, self._limit, self._advance = file, codec, limit, advance
        self._pieces = self._unpack()
        self._view = memoryview(b"")
        self._position = 0
        self._unpacked = 0

    def tell(self) -> int:
        """Return the position: unpacked bytes read so far."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip forward to ``position``, or to the end, and return the position."""
        if position < self._position:
            raise IntegrityError("a member's size leads backwards")
        while self._position < position:
            if not self.piece(position - self._position):
                break
        return self._position

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or fewer at the end."""
        piece = self.piece(size)
        if len(piece) == size:  # as nearly always
            return bytes(piece)
        pieces = [piece]
        while piece and (size := size - len(piece)):
            pieces.append(piece := self.piece(size))
        return b"".join(pieces)

    def piece(self, most: int) -> memoryview:
        """Return the next bytes, between 1 and ``most``; none only at the end."""
        if not self._view:
            self._view = memoryview(self._next())
        piece = self._view[:most]
        self._view = self._view[len(piece) :]
        self._position += len(piece)
        return piece

    def finish(self) -> None:
        """Read to the end, so that the checksum there is verified.

        Raises:
            IntegrityError: Something other than NULs is left.
        """
        while piece := self.piece(_PIECE):
            if piece.tobytes().count(0) != len(piece):
                raise IntegrityError("there is more behind the end of the archive")

    def _next(self) -> bytes:
        try:
            data = next(self._pieces, b"")
        except _DAMAGE as problem:
            raise IntegrityError(f"the {self._codec} data is damaged: {problem}") from None
        self._unpacked += len(data)
        if self._unpacked > self._limit:
            raise IntegrityError(
                f"it unpacks to more than {self._limit:,} bytes, more than any environment of its size",
                hint="If it is sound, unpack it yourself, and pack the environment with 'envpack pack'.",
            )
        return data

    def _unpack(self) -> Iterator[bytes]:
        if self._codec == "tar":
            while data := self._read_file():
                yield data
            return
        data = b""
        while True:  # programs that compress in parallel write several streams, one behind the other
            decoder = _DECOMPRESSORS[self._codec]()
            while not decoder.eof:
                if not data and getattr(decoder, "needs_input", True):
                    data = self._read_file()
                unpacked, rest = self._step(decoder, data)
                if not unpacked and not data and not decoder.eof:
                    raise ValueError("it ends too early")
                if unpacked:
                    yield unpacked
                data = rest
            data = decoder.unused_data or self._read_file()
            while data and not data.strip(b"\0"):  # padding, as on tapes
                data = self._read_file()
            if not data:
                return

    def _step(self, decoder: Any, data: bytes) -> tuple[bytes, bytes]:
        """Return some unpacked bytes, and the input that must be passed again."""
        if self._codec == "zst":
            return decoder.decompress(data), b""
        unpacked = decoder.decompress(data, _PIECE)
        return unpacked, getattr(decoder, "unconsumed_tail", b"")

    def _read_file(self) -> bytes:
        data = self._file.read(_READ_ZSTD if self._codec == "zst" else _READ)
        self._advance(len(data))
        return data


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive of another tool, and not a bundle.

    A folder and a file with damaged data count as bundles: the reader of bundles reports the error.

    Raises:
        FormatError: The file is neither tar nor zip, or can't be read.
    """
    if path.is_dir():
        return False
    kind = format_of(path)
    if not kind:
        suffixes = ", ".join(codec.suffixes[0] for codec in CODECS)
        raise FormatError(
            f"{path}: neither a bundle nor an archive that conda-pack made",
            hint=f"Give a bundle ({suffixes}), or an archive that conda-pack made.",
        )
    if kind not in {codec.format for codec in CODECS}:
        return True
    with path.open("rb") as file:
        try:
            block = Unpacked(file, kind, GENEROUS, lambda amount: None).read(512)
        except IntegrityError:
            return False
    return _begins_tar(block) and block[:100].rstrip(b"\0") != MANIFEST_PATH.encode()
