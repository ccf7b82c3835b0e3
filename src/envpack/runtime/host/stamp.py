"""The stamps of checks that passed: an activation where nothing has changed since asks nothing again.

``.envpack/check`` in the deployment, or a file of the user's cache where that can't be written, holds a line for
each host and state of it. ``activation/check.sh`` makes the lines, from what it can read without running a
program, and compares; here they are only kept.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Mapping

from envpack.runtime.format.layout import STAMP_PATH

KEPT = 32
"""Lines, the newest first: of so many hosts that share a deployment, the comparison still takes no time."""


_STALE = 3600
"""Seconds after which nobody is writing a stamp any more."""


def keep_stamp(root: Path, digest: str, line: str, environ: Mapping[str, str]) -> Path | None:
    """Notes that a check with this ``line`` has passed; the file it was written to, None where none can be."""
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
    if os.path.isabs(cache) and os.path.isdir(os.path.dirname(cache)):  # no home is made for who has none
        folder = Path(cache, "envpack", "checks")
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        yield folder / digest


def _add(place: Path, line: str) -> None:
    """Rewrites the file with the line in front, whole: others may be reading it, or writing it too."""
    try:
        known = place.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        known = []
    lines = [line, *(other for other in known if other != line)][:KEPT]
    for left in place.parent.glob(f"{place.name}.*"):  # by a process that was killed
        with suppress(OSError):
            if left.suffix[1:].isdecimal() and left.lstat().st_mtime < time.time() - _STALE:
                left.unlink()
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()  # never written through: it may be a link, or a file of a store
        with temporary.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{item}\n" for item in lines)
        os.replace(temporary, place)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
