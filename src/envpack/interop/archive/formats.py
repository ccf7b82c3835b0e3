"""The formats of archives, recognised by their first bytes, and what decompresses them."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from envpack.bundle.codecs import LIBRARIES
from envpack.interop.archive.tar_headers import is_header
from envpack.prefix.magics import BZIP2, TAR, TAR_OFFSET, XZ, ZIP, ZIP_END
from envpack.runtime.errors import FormatError
from envpack.runtime.format.codec import CODECS, Codec
from envpack.runtime.fs.io import read_file


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
    Format("bz2", "bzip2", (BZIP2,), (".bz2", ".tbz2"), bz2.BZ2Decompressor),
    Format("xz", "xz", (XZ,), (".xz", ".txz"), _xz),
    Format("zip", "deflate", (ZIP, ZIP_END), (".zip",)),
    Format("tar", "none", (), (".tar", ".parcel")),
)
"""The formats of archives that are read. Bundles have the first ones."""

CHECKSUMS = {
    "gz": "CRC-32 of the whole stream",
    "bz2": "CRC-32 of every block",
    "xz": "a check of every block",
    "zip": "CRC-32 of every file",
}
"""The checksums of each format; conda-pack writes zst without its checksum."""


def format_of(path: Path) -> str:
    """Return "gz", "zst", "bz2", "xz", "zip" or "tar" by the file's first bytes, "" for anything else.

    Raises:
        FormatError: The file can't be read, or is no regular file.
    """
    try:
        start = read_file(path, 512)
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint="Give the path of a bundle.") from None
    for known in FORMATS:
        if start.startswith(known.magics):
            return known.name
    return "tar" if starts_tar(start) else ""


def starts_tar(block: bytes) -> bool:
    """Return whether a block starts a tar archive: by its mark or, as v7 has none, by its checksum."""
    return block.startswith(TAR, TAR_OFFSET) or is_header(block)
