"""Decoders that decompress frames within size limits, with the standard library only.

``envpack.bundle.codecs`` has faster decoders with the same interface, for installations of envpack.
"""

from __future__ import annotations

import zlib
from typing import Any, Mapping

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.limits import MAX_MANIFEST

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a file, by codec: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1."""


class Decoder:
    """A decoder for the frames of one codec."""

    def frame(self, data: bytes, size: int) -> bytes:
        """Return the uncompressed bytes of one whole frame.

        Args:
            data: the compressed frame, with nothing behind it.
            size: bytes that it must unpack to.

        Raises:
            IntegrityError: the frame is damaged, or does not unpack to exactly ``size`` bytes.
        """
        raise NotImplementedError

    def first(self, data: bytes) -> tuple[bytes, int] | None:
        """Return the uncompressed bytes of the first frame of ``data``, and its compressed size in bytes.

        Returns None when ``data`` ends within the frame.

        Raises:
            IntegrityError: the frame is damaged, or unpacks to more than `MAX_MANIFEST` bytes.
        """
        raise NotImplementedError


class StreamDecoder(Decoder):
    """A decoder over objects with zlib's interface: ``decompress(data, limit)``, ``eof`` and ``unused_data``."""

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
    """A gzip decoder over the standard library's zlib."""

    def _new(self) -> Any:
        return zlib.decompressobj(31)


class ZstdDecoder(StreamDecoder):
    """A zstd decoder over the standard library's compression.zstd (Python 3.14 and newer)."""

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
    """Return the codec of a file, "gzip" or "zstd", by its first bytes.

    Args:
        start: the first bytes of the file, at least 4.
        name: name of the file in the error message.
        hint: hint of the error.

    Raises:
        FormatError: the file is neither gzip nor zstd data.
    """
    for magic, codec in MAGIC.items():
        if start.startswith(magic):
            return codec
    raise FormatError(f"{name}: not a bundle: neither gzip nor zstd data", hint=hint)
