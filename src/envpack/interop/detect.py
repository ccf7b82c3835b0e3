"""Detection of bundles, environments and archives of other tools."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.interop.archive.decompression import ALWAYS_ALLOWED, DecompressedStream
from envpack.interop.archive.formats import format_of, starts_tar
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.codec import CODECS
from envpack.runtime.format.layout import MANIFEST_PATH
from envpack.runtime.fs.io import GIT_LFS, GIT_LFS_ERROR, GIT_LFS_HINT, open_regular, read_file
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.transport.documents import is_parts


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive of another tool, and not a bundle.

    A folder, a list of parts and a file with damaged data count as bundles, whose reader reports the error.

    Raises:
        FormatError: The file is neither tar nor zip, or can't be read.
    """
    if is_folder(path, follow=True) or is_parts(path.name):
        return False
    kind = format_of(path)
    if not kind:
        if read_file(path, len(GIT_LFS)).startswith(GIT_LFS):
            raise FormatError(f"{path}: {GIT_LFS_ERROR}", hint=GIT_LFS_HINT)
        suffixes = ", ".join(codec.suffixes[0] for codec in CODECS)
        raise FormatError(
            f"{path}: neither a bundle nor an archive made by conda-pack",
            hint=f"Give a bundle ({suffixes}), or an archive made by conda-pack.",
        )
    if kind not in {codec.format for codec in CODECS}:
        return True
    with open(path, "rb", opener=open_regular) as file:
        try:
            block = DecompressedStream(file, kind, ALWAYS_ALLOWED, lambda amount: None).read(512)
        except IntegrityError:
            return False
    return starts_tar(block) and block[:100].rstrip(b"\0") != MANIFEST_PATH.encode()


def is_environment(path: Path) -> bool:
    """Return whether ``path`` is the folder of an environment, and not that of an unpacked bundle."""
    if (path / MANIFEST_PATH).exists():
        return False
    return (path / "conda-meta").is_dir() or os.path.lexists(path / "bin" / "python")
