"""Decoders that decompress frames within size limits, with the standard library only.

``envpack.bundle.codecs`` has faster decoders with the same interface, for installations of envpack.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.limits import MAX_MANIFEST


@dataclass(frozen=True)
class Codec:
    """A codec of bundles.

    Attributes:
        name: The name in a manifest.
        format: The word for ``--format``.
        magic: The first bytes of a file; source: ``rule``.
        suffixes: The suffixes of bundles, the usual one first.
        levels: The values of ``--level``.
        level: The default one.
        decompressor: Return an object with zlib's interface, from the standard library.
        rule: The specification of the format.
        missing: What to do if the standard library of a Python can't read it; "" where every one can.
    """

    name: str
    format: str
    magic: bytes
    suffixes: tuple[str, ...]
    levels: range
    level: int
    decompressor: Callable[[], Any]
    rule: str
    missing: str = ""


def _gzip() -> Any:
    return zlib.decompressobj(31)


def _zstd() -> Any:
    from compression.zstd import ZstdDecompressor  # type: ignore[import-not-found, unused-ignore]

    return ZstdDecompressor()


CODECS = (
    Codec(
        name="gzip",
        format="gz",
        magic=b"\x1f\x8b",
        suffixes=(".tar.gz", ".tgz"),
        levels=range(1, 13),
        level=4,
        decompressor=_gzip,
        rule="RFC 1952, section 2.3.1",
    ),
    Codec(
        name="zstd",
        format="zst",
        magic=b"\x28\xb5\x2f\xfd",
        suffixes=(".tar.zst", ".tzst"),
        levels=range(1, 20),
        level=3,
        decompressor=_zstd,
        rule="RFC 8878, section 3.1.1",
        missing="Unpack it with 'tar --zstd -xf BUNDLE -C DEST' and source DEST/bin/activate, or install envpack.",
    ),
)
"""Every codec of bundles. ``envpack.bundle.codecs.LIBRARIES`` has the encoder and the fast decoder of each."""


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


_SHORT_MEMORY = ("insufficient memory", "not enough memory")
"""Words of zlib for Z_MEM_ERROR, and of zstd for ZSTD_error_memory_allocation. That a frame "requires too much
memory" (zstd), or exceeds a "memory usage limit" (lzma), is the fault of the file.
"""


def damage(problem: Exception, what: str) -> Exception:
    """Return the error to raise for one of a decompressor: IntegrityError, or MemoryError where memory was short.

    Libraries state that in words, see `_SHORT_MEMORY`.

    Args:
        problem: The decompressor's error.
        what: What is damaged, as a clause.
    """
    if isinstance(problem, MemoryError) or any(words in str(problem) for words in _SHORT_MEMORY):
        return MemoryError(str(problem))
    return IntegrityError(f"{what}: {problem}")


class StreamDecoder(Decoder):
    """A decoder over objects with zlib's interface: ``decompress(data, limit)``, ``eof`` and ``unused_data``."""

    def _new(self) -> Any:
        raise NotImplementedError

    def frame(self, data: bytes, size: int) -> bytes:
        unpacked, used = self._run(data, size)
        if used != len(data) or len(unpacked) != size:
            raise IntegrityError("the size of an unpacked frame differs from the manifest")
        return unpacked

    def first(self, data: bytes) -> tuple[bytes, int] | None:
        unpacked, used = self._run(data, MAX_MANIFEST)
        return (unpacked, used) if used else None

    def _run(self, data: bytes, limit: int) -> tuple[bytes, int]:
        decoder = self._new()
        try:
            unpacked: bytes = decoder.decompress(data, limit + 1)
        except Exception as problem:  # each library has its own class for damaged data
            raise damage(problem, "a frame is damaged") from None
        if len(unpacked) > limit:
            raise IntegrityError("an unpacked frame is larger than the manifest states")
        return unpacked, len(data) - len(decoder.unused_data) if decoder.eof else 0


class StandardDecoder(StreamDecoder):
    """A decoder of one codec, with the standard library."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def _new(self) -> Any:
        try:
            return self._codec.decompressor()
        except ImportError:
            raise FormatError(f"this Python can't read {self._codec.name}", hint=self._codec.missing) from None


STANDARD: Mapping[str, Decoder] = {codec.name: StandardDecoder(codec) for codec in CODECS}


def codec_of(start: bytes, name: str, hint: str = "") -> str:
    """Return the name of a file's codec, by its first bytes.

    Args:
        start: the first bytes of the file, at least 4.
        name: name of the file in the error message.
        hint: hint of the error.

    Raises:
        FormatError: the file has none of the `CODECS`.
    """
    for codec in CODECS:
        if start.startswith(codec.magic):
            return codec.name
    names = " nor ".join(codec.name for codec in CODECS)
    raise FormatError(f"{name}: not a bundle: neither {names} data", hint=hint)
