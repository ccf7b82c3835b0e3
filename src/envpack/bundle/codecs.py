"""Fast codecs: libdeflate and zstd to compress frames, ISA-L and zstd to decompress them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import deflate
import zstandard
from isal import isal_zlib

from envpack.runtime.codec import Decoder, StreamDecoder
from envpack.runtime.errors import UsageError


class Encoder(Protocol):
    """Compresses one frame to bytes that depend on nothing but the data and the level."""

    name: str

    def frame(self, data: bytes | memoryview) -> bytes: ...


class GzipEncoder:
    """One gzip member (RFC 1952) without name or time. Levels 1 to 12 are libdeflate's."""

    name = "gzip"
    default_level = 4
    levels = range(1, 13)

    def __init__(self, level: int) -> None:
        self._level = level

    def frame(self, data: bytes | memoryview) -> bytes:
        return bytes(deflate.gzip_compress(data, self._level))


class ZstdEncoder:
    """One zstd frame (RFC 8878) with content size and checksum. Levels 1 to 19."""

    name = "zstd"
    default_level = 3
    levels = range(1, 20)

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()  # a compressor object serves one thread at a time

    def frame(self, data: bytes | memoryview) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstandard.ZstdCompressor(
                level=self._level, write_checksum=True, write_content_size=True
            )
        compressed: bytes = compressor.compress(data)
        return compressed


ENCODERS: Mapping[str, type[GzipEncoder] | type[ZstdEncoder]] = {
    ".tar.gz": GzipEncoder,
    ".tgz": GzipEncoder,
    ".tar.zst": ZstdEncoder,
    ".tzst": ZstdEncoder,
}
"""Encoders by the output's suffix."""


def encoder_for(filename: str, level: int | None = None) -> Encoder:
    """The encoder for an output of this name; raises UsageError for a suffix or level that there is none for."""
    for suffix, encoder in ENCODERS.items():
        if filename.endswith(suffix):
            level = encoder.default_level if level is None else level
            if level not in encoder.levels:
                raise UsageError(
                    f"{encoder.name} has no level {level}",
                    hint=f"Levels are {encoder.levels[0]} to {encoder.levels[-1]}.",
                )
            return encoder(level)
    raise UsageError(
        f"{filename!r}: what format this is to be can't be told from its name",
        hint=f"Name it *{', *'.join(ENCODERS)}.",
    )


class _IsalDecoder(StreamDecoder):
    def _new(self) -> Any:
        return isal_zlib.decompressobj(31)


class _ZstdDecoder(StreamDecoder):
    def _new(self) -> Any:
        return _ZstdStream()


class _ZstdStream:
    """zstandard's decompressor in the shape of zlib's, with a limit on the output."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor().decompressobj()
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, limit: int) -> bytes:
        parameters = zstandard.get_frame_parameters(data)
        if parameters.content_size >= limit:
            raise ValueError(f"it would unpack to {parameters.content_size} bytes")
        unpacked: bytes = self._decoder.decompress(data)
        self.eof = self._decoder.eof
        self.unused_data = self._decoder.unused_data
        return unpacked


FAST: Mapping[str, Decoder] = {"gzip": _IsalDecoder(), "zstd": _ZstdDecoder()}
"""Decoders for ``open_bundle`` and ``deploy`` where envpack is installed."""
