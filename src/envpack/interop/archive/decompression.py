"""Decompression of an archive as a stream: piece by piece, in bounded memory, valid only when read to the end."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import zstandard
from isal import isal_zlib

from envpack.interop.archive.formats import FORMATS
from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.codec import damage

_PIECE = 1 << 20
_READ_SIZE = 256 << 10
_READ_SIZE_ZSTD = 4 << 10
"""Bytes read at once: zstandard unpacks all of them, and 4 bytes may become 128 KiB (RFC 8878, 3.1.1.2)."""

_DECOMPRESSORS = {known.name: known.decompressor for known in FORMATS if known.decompressor is not None}

_ISAL_ERROR: Any = isal_zlib.error
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    _ISAL_ERROR,
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
    ValueError,
)

ALWAYS_ALLOWED = 1 << 30
MAX_RATIO = 100
"""An archive that unpacks to more than MAX_RATIO times its size and ALWAYS_ALLOWED bytes is taken for a
decompression bomb: conda environments compress 2 to 6 times.
"""


def max_unpacked_size(stored: int) -> int:
    """Return the most bytes that an archive of ``stored`` bytes may unpack to."""
    return max(ALWAYS_ALLOWED, MAX_RATIO * stored)


class DecompressedStream:
    """The unpacked bytes of a compressed file, to be read once: ``seek`` goes forward only.

    Args:
        file: The compressed file.
        codec: Its format, as `envpack.interop.archive.formats.format_of` returns it.
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
            raise IntegrityError("the size of a member is negative")
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
                raise IntegrityError("there is unexpected data after the end of the archive")

    def _next(self) -> bytes:
        try:
            data = next(self._pieces, b"")
        except _DECODER_ERRORS as problem:
            if isinstance(problem, OSError) and problem.errno:
                raise  # of the file, and not bz2's, which has no number
            raise damage(problem, f"the {self._codec} data is damaged") from None
        self._unpacked += len(data)
        if self._unpacked > self._limit:
            raise IntegrityError(
                f"the unpacked size is more than {self._limit:,} bytes, too much for this archive",
                hint="If the archive is valid, unpack it yourself, and pack the environment with 'envpack pack'.",
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
                unpacked, rest = self._decode(decoder, data)
                if not unpacked and not data and not decoder.eof:
                    raise ValueError("the data ends too early")
                if unpacked:
                    yield unpacked
                data = rest
            data = decoder.unused_data or self._read_file()
            while data and not data.strip(b"\0"):  # padding, as on tapes
                data = self._read_file()
            if not data:
                return

    def _decode(self, decoder: Any, data: bytes) -> tuple[bytes, bytes]:
        """Return some unpacked bytes, and the input that must be passed again."""
        if self._codec == "zst":
            return decoder.decompress(data), b""
        unpacked = decoder.decompress(data, _PIECE)
        return unpacked, getattr(decoder, "unconsumed_tail", b"")

    def _read_file(self) -> bytes:
        data = self._file.read(_READ_SIZE_ZSTD if self._codec == "zst" else _READ_SIZE)
        self._advance(len(data))
        return data
