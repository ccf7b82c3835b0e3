"""Decompressing frames, within bounds, with what a bare Python has.

``envpack.bundle.codecs`` has faster decoders with the same interface for where envpack is installed.
"""

from __future__ import annotations

import zlib
from typing import Any, Mapping

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.limits import MAX_MANIFEST

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a file, by codec: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1."""


class Decoder:
    """Decompresses frames of one codec."""

    def frame(self, data: bytes, size: int) -> bytes:
        """All of one frame, which must unpack to ``size`` bytes exactly; IntegrityError when it does not."""
        raise NotImplementedError

    def first(self, data: bytes) -> tuple[bytes, int] | None:
        """The first frame of ``data`` unpacked, and its compressed length; None when ``data`` ends within it."""
        raise NotImplementedError


class StreamDecoder(Decoder):
    """A decoder over objects like zlib's: ``decompress(data, limit)``, ``eof`` and ``unused_data``."""

    def _new(self) -> Any:
        raise NotImplementedError

    def frame(self, data: bytes, size: int) -> bytes:
        unpacked, used = self._run(data, size)
        if used != len(data) or len(unpacked) != size:
            raise IntegrityError("a frame does not unpack to the size the manifest states")
        return unpacked

    def first(self, data: bytes) -> tuple[bytes, int] | None:
        unpacked, used = self._run(data, MAX_MANIFEST)
        return (unpacked, used) if used else None

    def _run(self, data: bytes, limit: int) -> tuple[bytes, int]:
        decoder = self._new()
        try:
            unpacked: bytes = decoder.decompress(data, limit + 1)
        except Exception as problem:  # each library has its own class for damaged data
            raise IntegrityError(f"a frame is damaged: {problem}") from None
        if len(unpacked) > limit:
            raise IntegrityError("a frame unpacks to more than the manifest states")
        return unpacked, len(data) - len(decoder.unused_data) if decoder.eof else 0


class GzipDecoder(StreamDecoder):
    def _new(self) -> Any:
        return zlib.decompressobj(31)


class ZstdDecoder(StreamDecoder):
    """Through the standard library's compression.zstd, which Python has from 3.14 on."""

    def _new(self) -> Any:
        try:
            from compression.zstd import ZstdDecompressor  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise FormatError(
                "this Python can't read zstd",
                hint="Run 'tar --zstd -xf BUNDLE -C DEST' and source DEST/bin/activate, or install envpack.",
            ) from None
        return ZstdDecompressor()


STANDARD: Mapping[str, Decoder] = {"gzip": GzipDecoder(), "zstd": ZstdDecoder()}


def codec_of(start: bytes, name: str, hint: str = "") -> str:
    """The codec of ``name``, which begins with ``start``; raises FormatError for anything but gzip and zstd."""
    for magic, codec in MAGIC.items():
        if start.startswith(magic):
            return codec
    raise FormatError(f"{name}: not a bundle: neither gzip nor zstd data", hint=hint)
