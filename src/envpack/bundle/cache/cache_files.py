"""Files of the segment cache: their paths, their sizes and the order of their removal."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import check_links
from envpack.runtime.fs.temporary import replace_file

LIMIT = 20 << 30
"""Bytes of bundles in the cache, unless ENVPACK_CACHE_LIMIT gives another number.

The newest bundle stays, whatever its size.
"""

VERSION = "1"
"""Version of the cache's layout: the name of the directory that holds it."""

TABLE, LIST, BUNDLE = ".table", ".json", ".bundle"
"""Suffixes of a bundle's files in the cache: parts of its paths table, list of its segments (JSON), the bundle."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the directory of the segment cache, or None where there is no cache.

    It is ENVPACK_CACHE, else envpack/segments in XDG_CACHE_HOME (default ~/.cache). An empty ENVPACK_CACHE
    switches the cache off; without a home directory there is none either.
    """
    if "ENVPACK_CACHE" in environ:
        return Path(environ["ENVPACK_CACHE"]) if environ["ENVPACK_CACHE"] else None
    base = environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return Path(base) / "envpack/segments" if os.path.isabs(base) else None


def part_of_cache(folder: Path, kind: str) -> Path:
    """Return the directory for one kind of files in the cache in ``folder``, whether it exists or not.

    Raises:
        OSError: It is, or lies behind, a link that another user has made.
    """
    part = folder / VERSION / kind
    try:
        check_links(part)
    except DestinationError as problem:
        raise OSError(errno.ELOOP, problem.message, str(part)) from None
    return part


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where the file can't be read or holds anything else."""
    try:
        document = json_value(read_file(path))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_cache_file(path: Path, data: bytes) -> None:
    """Replace a file of the cache; other processes, also on other hosts, may do so at the same time."""
    replace_file(path, data, durable=False)


def segment_lists(folder: Path) -> list[Path]:
    """Return the segment lists in ``folder``, newest first; one that disappears meanwhile is left out."""
    found = []
    with suppress(OSError):
        for path in part_of_cache(folder.parent, "bundles").glob(f"*{LIST}"):
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def size_limit() -> int:
    """Return the size limit of the cache in bytes, from ENVPACK_CACHE_LIMIT or `LIMIT`."""
    given = os.environ.get("ENVPACK_CACHE_LIMIT", "")
    return int(given) if given.isdigit() else LIMIT


def shrink(folder: Path, limit: int) -> None:
    """Remove the bundles beyond ``limit`` bytes, counted from the newest one, which always stays."""
    taken = 0
    for number, path in enumerate(segment_lists(folder)):
        taken += sum(size for _, size in _files(path))
        if number and taken > limit:
            forget(path.parent, path.stem)


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    for suffix in (LIST, TABLE, BUNDLE):
        file = path.with_suffix(suffix)
        with suppress(OSError):
            yield file, file.stat().st_size


def forget(bundles: Path, name: str) -> None:
    """Remove the files of the bundle ``name`` from the cache."""
    for suffix in (LIST, TABLE, BUNDLE):
        (bundles / f"{name}{suffix}").unlink(missing_ok=True)


_OWN = re.compile(r"[0-9a-f]{32,64}(\.[a-z]+)?")
"""Names of the files in the cache: random ones, and digests."""


class CacheFacts(NamedTuple):
    """The contents of a segment cache, in numbers.

    Attributes:
        folder: Directory of the cache.
        bundles: Number of bundles.
        size: Bytes of their files.
        own: Those of the bytes that no other hard link shares: clearing the cache frees them.
    """

    folder: Path
    bundles: int
    size: int
    own: int


def cache_facts(folder: Path) -> CacheFacts:
    """Return the number and size of the bundles in the cache in ``folder``."""
    size = own = bundles = 0
    for path in segment_lists(folder / VERSION):
        bundles += 1
        for file, bytes_ in _files(path):
            size += bytes_
            with suppress(OSError):
                own += bytes_ if file.stat().st_nlink == 1 else 0
    return CacheFacts(folder, bundles, size, own)


def clear_cache(folder: Path) -> CacheFacts:
    """Remove everything from the cache in ``folder``; return what was there."""
    facts = cache_facts(folder)
    for kind in ("bundles", "prefixes", "runtime"):
        with suppress(OSError):
            for path in part_of_cache(folder, kind).iterdir():
                if _OWN.fullmatch(path.name):
                    path.unlink(missing_ok=True)
    return facts
