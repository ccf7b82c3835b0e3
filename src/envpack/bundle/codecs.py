"""Fast codecs: libdeflate and zstd to compress frames, ISA-L and zstd to decompress them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import deflate
import zstandard
from isal import isal_zlib

from envpack.runtime.errors import IntegrityError, UsageError
from envpack.runtime.format.codec import CODECS, Decoder, StreamDecoder, damage
from envpack.runtime.format.limits import MAX_MANIFEST


class Encoder(Protocol):
    """A compressor of frames. The output depends only on the data and the level."""

    name: str

    @property
    def identity(self) -> str:
        """All that the compressed bytes depend on besides the data: codec, level, version of the library."""
        ...

    def frame(self, data: bytes | memoryview) -> bytes: ...


class GzipEncoder:
    """A compressor to one gzip member (RFC 1952) without name or time; levels 1 to 12 are libdeflate's."""

    name = "gzip"

    def __init__(self, level: int) -> None:
        self._level = level

    @property
    def identity(self) -> str:
        return f"gzip {self._level} deflate {deflate.__version__}"

    def frame(self, data: bytes | memoryview) -> bytes:
        return bytes(deflate.gzip_compress(data, self._level))


class ZstdEncoder:
    """A compressor to one zstd frame (RFC 8878) with content size and checksum; levels 1 to 19."""

    name = "zstd"

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()  # a compressor object may be used by one thread at a time

    @property
    def identity(self) -> str:
        return f"zstd {self._level} {'.'.join(map(str, zstandard.ZSTD_VERSION))}"

    def frame(self, data: bytes | memoryview) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstandard.ZstdCompressor(
                level=self._level, write_checksum=True, write_content_size=True
            )
        compressed: bytes = compressor.compress(data)
        return compressed


class _IsalDecoder(StreamDecoder):
    def _new(self) -> Any:
        return isal_zlib.decompressobj(31)


class _ZstdDecoder(Decoder):
    """A decoder of single zstd frames, which checks the size that a frame states before it allocates memory."""

    def frame(self, data: bytes, size: int) -> bytes:
        if _frame_length(data) != len(data) or _content_size(data) != size:
            raise IntegrityError("a frame does not unpack to the size the manifest states")
        return self._unpack(data)

    def first(self, data: bytes) -> tuple[bytes, int] | None:
        length = _frame_length(data)
        if length is None:
            return None
        if _content_size(data) > MAX_MANIFEST:
            raise IntegrityError("a frame unpacks to more than the manifest states")
        return self._unpack(data[:length]), length

    def _unpack(self, frame: bytes) -> bytes:
        try:
            unpacked: bytes = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as problem:
            raise damage(problem, "a frame is damaged") from None
        return unpacked


def _content_size(data: bytes) -> int:
    """Return the unpacked size that a frame states, in bytes; 2**64 - 1 when it states none."""
    try:
        return int(zstandard.get_frame_parameters(data).content_size)
    except zstandard.ZstdError as problem:
        raise damage(problem, "a frame is damaged") from None


_LONGEST_HEADER = 18
"""Bytes of the longest zstd frame header (RFC 8878, 3.1.1.1), with the magic number."""

_RLE, _RESERVED = 1, 3
"""Block types (RFC 8878, 3.1.1.2.2): RLE, with one byte of content, and reserved."""


def _frame_length(data: bytes) -> int | None:
    """Return the length in bytes of the zstd frame at the start of ``data``, or None when ``data`` ends within it.

    Only the headers of its blocks are read (RFC 8878, 3.1.1).

    Raises:
        IntegrityError: It is no zstd frame.
    """
    if not data.startswith(zstandard.FRAME_HEADER):
        raise IntegrityError("a frame is damaged: it is not zstd data")
    try:
        position = zstandard.frame_header_size(data)
    except zstandard.ZstdError as problem:
        if len(data) < _LONGEST_HEADER:
            return None
        raise damage(problem, "a frame is damaged") from None
    last = False
    while not last:
        head = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        if position + 3 > len(data):
            return None
        if kind == _RESERVED:
            raise IntegrityError("a frame is damaged: a block has an unknown type")
        position += 3 + (1 if kind == _RLE else size)
    position += 4 if data[4] & 4 else 0  # the checksum
    return position if position <= len(data) else None


class Library(NamedTuple):
    """The libraries that compress and decompress one codec faster than the standard library does.

    Attributes:
        encoder: Return an encoder of this level.
        decoder: The decoder of frames.
        stream: Return an object that decompresses a stream piece by piece, with zlib's interface.
    """

    encoder: Callable[[int], Encoder]
    decoder: Decoder
    stream: Callable[[], Any]


LIBRARIES: Mapping[str, Library] = {
    "gzip": Library(GzipEncoder, _IsalDecoder(), lambda: isal_zlib.decompressobj(31)),
    "zstd": Library(ZstdEncoder, _ZstdDecoder(), lambda: zstandard.ZstdDecompressor().decompressobj()),
}
"""The libraries of each codec, by the names in `envpack.runtime.format.codec.CODECS`."""

FAST: Mapping[str, Decoder] = {name: library.decoder for name, library in LIBRARIES.items()}
"""Decoders for ``open_bundle`` and ``deploy`` where envpack is installed, by codec name."""


def encoder_for(filename: str, level: int | None = None) -> Encoder:
    """Return the encoder for an output file.

    Args:
        filename: Name of the output; its suffix decides the codec.
        level: Compression level (default: the codec's own).

    Raises:
        UsageError: The suffix is unknown, or the codec has no such level.
    """
    codec = next((codec for codec in CODECS if filename.endswith(codec.suffixes)), None)
    if codec is None:
        suffixes = (suffix for codec in CODECS for suffix in codec.suffixes)
        raise UsageError(
            f"{filename!r} does not end in a known suffix",
            hint=f"Use one of {', '.join(suffixes)}.",
        )
    level = codec.level if level is None else level
    if level not in codec.levels:
        raise UsageError(
            f"{codec.name} has no level {level}", hint=f"Use a level from {codec.levels[0]} to {codec.levels[-1]}."
        )
    return LIBRARIES[codec.name].encoder(level)
