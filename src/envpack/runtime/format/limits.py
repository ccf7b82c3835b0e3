"""How large things in a bundle may be, so that a hostile one costs bounded time and memory; far more than any
environment needs. A reader refuses what is larger before it is read, unpacked or parsed.

``bundle/FORMAT.md`` states those that writers have to keep.
"""

from __future__ import annotations

MAX_FRAME = 16 << 20
"""Bytes one frame may unpack to: it bounds the memory of a reader."""

MAX_MANIFEST = 64 << 20
"""Bytes the manifest's frame may unpack to; 400 packages and 20 GB need about 1 MiB."""

MAX_TABLE = 256 << 20
"""Bytes of the paths table; 40,000 files need about 9 MB."""

MAX_MANIFEST_VALUES = 4 << 20
MAX_TABLE_VALUES = 16 << 20
"""Values, keys and brackets in the JSON of each, which is what memory for it grows with: a file has 15 of them,
and each takes at most 70 bytes, once read."""

MAX_NAME = 255
"""Bytes of one part of a path: NAME_MAX of <linux/limits.h>."""

MAX_PATH = 2048
"""Bytes of a path in the environment, or of a link's target: half of PATH_MAX, the other half is for the
destination."""

MAX_DEPTH = 128
"""Parts of a path."""

MAX_FOLDERS = 1 << 20
"""Folders in an environment."""

MAX_LINKS = 32_000
"""Hard links to one file: ext4 takes 65,000 (Documentation/filesystems/ext4)."""

MAX_MTIME = (1 << 33) - 1
"""Seconds since 1970 that 11 octal digits of a tar header hold: the year 2242."""

MAX_PLACEHOLDER = 4096
"""Bytes of a placeholder, and of what may stand before and behind it in a first line: PATH_MAX."""

MAX_TEXT = 1 << 20
"""Characters of any one text in the manifest, such as a test command."""

MAX_FACT = 4096
"""Characters of a text that is about the host: a requirement, what was found and where."""


def most_stored(size: int) -> int:
    """The most bytes that a frame of ``size`` bytes unpacked may take in the file.

    Data that can't be compressed grows by 5 bytes in 10,000 (libdeflate, deflate_compress_none) or 3 in 131,072
    (RFC 8878, 3.1.1.2); a frame of more has nothing in it for most of its length.
    """
    return size + (size >> 8) + 1024
