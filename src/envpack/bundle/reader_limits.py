"""Limits of readers, checked when a bundle is packed, so that every bundle that is made can be deployed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from envpack.prefix.model import Entry, Group
from envpack.runtime.errors import FormatError, IntegrityError, PackError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import MARKS
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.format.manifest_json import manifest_from_json
from envpack.runtime.format.paths_json import segment_to_json

_HINT = "Exclude files that are not needed, or split it into several environments."


def check_paths(groups: Iterable[Group]) -> None:
    """Raise PackError when the paths alone exceed the limits of a bundle, whatever the files contain."""
    entries = [entry for group in groups for entry in group.entries]
    paths = [entry.path for entry in entries]
    others = [entry for entry in entries if entry.type != "file"]
    files = len(entries) - len(others)
    (file_size, file_values), (other_size, other_values) = _least("file"), _least("directory")
    values = files * file_values + len(others) * other_values
    joined = "".join(paths)  # counting in one string takes a tenth of the time
    size = len(joined) + files * file_size + len(others) * other_size
    if values > limits.MAX_TABLE_VALUES or size > limits.MAX_TABLE:
        most = int(len(entries) * min(limits.MAX_TABLE_VALUES / values, limits.MAX_TABLE / size))
        links = f" and {len(others):,} links and empty directories" if others else ""
        raise PackError(
            f"the environment has {files:,} files{links}, but a bundle can contain about {most:,} paths like "
            "these",
            hint=_HINT,
            details=_most_of(paths),
        )
    _check_links(others)
    folders = joined.count("/") + len(others)  # an upper bound
    if folders > limits.MAX_FOLDERS and (folders := _folders(entries)) > limits.MAX_FOLDERS:
        raise PackError(
            f"the environment has {folders:,} directories, but the limit of a bundle is {limits.MAX_FOLDERS:,}",
            hint=_HINT,
            details=_most_of(paths),
        )


def check_table(table: bytes) -> None:
    """Raise PackError for a paths table that is too large for readers."""
    why = "there are too many files, or too many mentions of the environment's path in them"
    _check(table, len(table), "the paths table", why, limits.MAX_TABLE, limits.MAX_TABLE_VALUES)


def check_manifest(manifest: bytes, frame: int) -> None:
    """Raise PackError for a manifest that is too large for readers.

    Args:
        manifest: The manifest, as JSON.
        frame: Bytes of the frame that contains it, uncompressed.
    """
    why = "too many files are changed, missing, in no package, or too large"
    _check(manifest, frame, "the manifest", why, limits.MAX_MANIFEST, limits.MAX_MANIFEST_VALUES)


def check_readable(manifest: bytes) -> None:
    """Raise PackError for a manifest that the reader refuses, because of a text that is too long, for example."""
    try:
        manifest_from_json(manifest)
    except (FormatError, IntegrityError) as problem:
        raise PackError(f"no envpack could read the bundle: {problem.message}") from None


def _check(data: bytes, size: int, what: str, why: str, most: int, most_values: int) -> None:
    if size > most:
        raise PackError(f"{what} would have {size:,} bytes, but the limit is {most:,}: {why}", hint=_HINT)
    if len(data) > most_values and (values := _values(data)) > most_values:
        raise PackError(
            f"{what} would have {values:,} values, but the limit is {most_values:,}: {why}", hint=_HINT
        )


@cache
def _least(type: str) -> tuple[int, int]:
    """Return the minimum bytes and values of a path of this type in the paths table, without its name."""
    record = PathRecord("", type, sha256="0" * 64)
    one, two = (segment_to_json("", [record] * number) for number in (1, 2))
    return len(two) - len(one), _values(two) - _values(one)


def _values(data: bytes) -> int:
    return sum(map(data.count, MARKS))


def _check_links(entries: Sequence[Entry]) -> None:
    long = [entry.path for entry in entries if len(os.fsencode(entry.target)) > limits.MAX_PATH]
    if long:
        raise PackError(
            f"{long[0]} is a link to a path of more than {limits.MAX_PATH:,} bytes, which is the limit",
            hint="Shorten the targets of these links, or exclude the links.",
            details=long,
        )
    linked = Counter(entry.target for entry in entries if entry.type == "hardlink")
    for path, number in linked.most_common(1):
        if number > limits.MAX_LINKS:
            raise PackError(
                f"{path} has {number:,} hard links, but the limit of a bundle is {limits.MAX_LINKS:,}",
                hint="Exclude some of them, or make them symbolic links.",
            )


def _folders(entries: Iterable[Entry]) -> int:
    """Return the number of directories among these entries and their parents."""
    known: set[str] = set()
    for folder in {
        entry.path if entry.type == "directory" else entry.path.rpartition("/")[0] for entry in entries
    }:
        while folder and folder not in known:
            known.add(folder)
            folder = folder.rpartition("/")[0]
    return len(known)


def _most_of(paths: Sequence[str]) -> list[str]:
    """Return a line on the deepest directory with at least half of the paths; nothing where there is none."""
    found, within = "", list(paths)
    while True:
        below = Counter(path[len(found) :].partition("/")[0] for path in within)
        ((name, _),) = below.most_common(1)
        inside = [path for path in within if path.startswith(f"{found}{name}/")]
        if 2 * len(inside) < len(paths):
            break
        found, within = f"{found}{name}/", inside
    return [f"{len(within):,} of these {len(paths):,} paths are in {found}"] if found else []
