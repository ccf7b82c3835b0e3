"""The files of the segment cache: where they are, how large, and which go first."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 20 << 30
"""Bytes of bundles that are kept, unless ENVPACK_CACHE_LIMIT says otherwise; the newest is kept however large."""

VERSION = "1"
TABLE, LIST, BUNDLE = ".table", ".json", ".bundle"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where segments are kept: ENVPACK_CACHE, else envpack/segments in XDG_CACHE_HOME (default ~/.cache); None
    when ENVPACK_CACHE is empty, which switches it off, or there is no home."""
    if "ENVPACK_CACHE" in environ:
        return Path(environ["ENVPACK_CACHE"]) if environ["ENVPACK_CACHE"] else None
    base = environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return Path(base) / "envpack/segments" if os.path.isabs(base) else None


def read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    partial.write_bytes(data)
    os.replace(partial, path)


def segment_lists(folder: Path) -> list[Path]:
    """The newest first; one that goes meanwhile is not there."""
    found = []
    with suppress(OSError):
        for path in (folder / "bundles").glob(f"*{LIST}"):
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def size_limit() -> int:
    given = os.environ.get("ENVPACK_CACHE_LIMIT", "")
    return int(given) if given.isdigit() else LIMIT


def shrink(folder: Path, limit: int) -> None:
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
    for suffix in (LIST, TABLE, BUNDLE):
        (bundles / f"{name}{suffix}").unlink(missing_ok=True)


class CacheFacts(NamedTuple):
    """``folder``: where it is; ``bundles``: how many are kept; ``size``: their bytes, and ``own``: those of them
    that no other file shares, which clearing it frees."""

    folder: Path
    bundles: int
    size: int
    own: int


def cache_facts(folder: Path) -> CacheFacts:
    """What is in the cache in ``folder``."""
    size = own = bundles = 0
    for path in segment_lists(folder / VERSION):
        bundles += 1
        for file, bytes_ in _files(path):
            size += bytes_
            with suppress(OSError):
                own += bytes_ if file.stat().st_nlink == 1 else 0
    return CacheFacts(folder, bundles, size, own)


def clear_cache(folder: Path) -> CacheFacts:
    """Removes everything from the cache in ``folder``, and tells what there was."""
    facts = cache_facts(folder)
    for kind in ("bundles", "prefixes"):
        with suppress(OSError):
            for path in (folder / VERSION / kind).iterdir():
                path.unlink(missing_ok=True)
    return facts
