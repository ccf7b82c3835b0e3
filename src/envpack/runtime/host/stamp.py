"""The stamps of passed checks: with them an activation skips the check while nothing has changed.

``.envpack/check`` in the deployment, or a file of the user's cache where that can't be written, holds one line for
each host and each state of it. ``activation/check.sh`` makes the lines from what it can read without running a
program, and compares them. This module only stores them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Mapping

from envpack.runtime.format.layout import STAMP_PATH
from envpack.runtime.fs.io import other_owner, read_file
from envpack.runtime.fs.temporary import replace_file

MAX_STAMPS = 32
"""The maximum number of lines, the newest first. With so many hosts that share a deployment, comparing the stamps
still takes no noticeable time.
"""


def keep_stamp(root: Path, digest: str, line: str, environ: Mapping[str, str]) -> Path | None:
    """Record that a check with this ``line`` has passed.

    Args:
        root: The deployment directory.
        digest: The digest of the deployed bundle, which the line must contain; it names the file in the user's
            cache.
        line: The line that ``activation/check.sh`` made.
        environ: The environment variables, for the user's cache folder.

    Returns:
        The file with the stamp, None when no file can be written or the line is not valid.
    """
    if not line.isprintable() or digest not in line:
        return None
    for place in _places(root, digest, environ):
        with suppress(OSError):
            _add(place, line)
            return place
    return None


def _places(root: Path, digest: str, environ: Mapping[str, str]) -> Iterator[Path]:
    yield root / STAMP_PATH
    cache = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", ""), ".cache")
    if os.path.isabs(cache) and os.path.isdir(os.path.dirname(cache)):  # never create a missing home directory
        folder = Path(cache, "envpack", "checks")
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        yield folder / digest


def _add(place: Path, line: str) -> None:
    """Put the line first in the file, by atomic replace: other processes may read or write it at the same time."""
    try:
        known = read_file(place).decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        known = []
    lines = [line, *(other for other in known if other != line)][:MAX_STAMPS]
    data = "".join(f"{item}\n" for item in lines).encode("utf-8", "surrogateescape")
    replace_file(place, data, durable=False, owner=other_owner(place.parent))
