"""Size limits of a bundle, so that a hostile bundle costs only bounded time and memory.

They are far above the needs of any environment. A reader refuses larger values before it reads, decompresses or
parses the data. ``bundle/FORMAT.md`` states those that writers must respect.
"""

from __future__ import annotations

MAX_FRAME = 16 << 20
"""Uncompressed bytes of one frame: this bounds the memory of a reader."""

MAX_MANIFEST = 64 << 20
"""Uncompressed bytes of the manifest's frame; 400 packages and 20 GB need about 1 MiB."""

MAX_TABLE = 256 << 20
"""Bytes of the paths table; 40,000 files need about 9 MB."""

MAX_MANIFEST_VALUES = 4 << 20
MAX_TABLE_VALUES = 16 << 20
"""Values, keys and brackets in the JSON of the manifest and of the paths table. The memory for the parsed document
grows with them: a file has 15, and each takes at most 70 bytes."""

MAX_NAME = 255
"""Bytes of one component of a path: NAME_MAX of <linux/limits.h>."""

MAX_PATH = 2048
"""Bytes of a path in the environment, or of a link's target: half of PATH_MAX, the other half is for the
destination."""

MAX_DEPTH = 128
"""Components of a path."""

MAX_FOLDERS = 1 << 20
"""Folders in an environment."""

MAX_LINKS = 32_000
"""Hard links to one file: ext4 takes 65,000 (Documentation/filesystems/ext4)."""

MAX_MTIME = (1 << 33) - 1
"""Largest modification time, in seconds since 1970, that 11 octal digits of a tar header hold: the year 2242."""

MAX_PLACEHOLDER = 4096
"""Bytes of a placeholder, and of the text before or after it in a script's first line: PATH_MAX."""

MAX_TEXT = 1 << 20
"""Characters of any one string in the manifest, such as a test command."""

MAX_FACT = 4096
"""Characters of a string about the host: a requirement, or a detected need and its source."""


def max_stored_size(size: int) -> int:
    """Return the largest compressed size, in bytes, of a frame of ``size`` uncompressed bytes.

    Data that can't be compressed grows by 5 bytes in 10,000 (libdeflate, deflate_compress_none) or 3 in 131,072
    (RFC 8878, 3.1.1.2); most of the bytes of a larger frame would hold no data.
    """
    return size + (size >> 8) + 1024
