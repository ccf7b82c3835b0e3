"""Fast reader of the paths table, which has 100,000 records and more.

The seam is one function, `read_fast`: it returns what the strict reader returns, or None to leave the decision and
every error message to that one, `envpack.runtime.format.paths_json.read_strict`.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any, Iterator, Sequence

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import PLAIN, JsonValue
from envpack.runtime.format.manifest import FORMAT, PathRecord, PathsTable
from envpack.runtime.format.manifest_json import fact
from envpack.runtime.format.path_record_json import (
    content_digest,
    read_placeholder,
    read_record,
    read_relocation,
    segment_content,
)

_TABLE_START, _TABLE_END = f'{{"format":{FORMAT},"segments":[', "]}"


def read_fast(text: str) -> PathsTable | None:
    """Return the table of a JSON text that is exactly as envpack writes it; None for any other, or a wrong one.

    It reads one segment after the other, so that memory holds the records and the JSON of one segment only.

    Args:
        text: the JSON, without numbers beyond 64 bits.
    """
    if not text.startswith(_TABLE_START):
        return None
    position = len(_TABLE_START)
    segments: dict[str, tuple[PathRecord, ...]] = {}
    digests: dict[str, str] = {}
    try:
        while not text.startswith("]", position):
            segment, end = PLAIN.raw_decode(text, position)
            content = _content_as_written(segment, text, position)
            if content is None:
                return None
            id = fact(JsonValue(segment["id"], None, "id"))
            if id in segments:
                return None
            segments[id], digests[id] = _read_segment(segment), content_digest(content)
            position = end + text.startswith(",{", end)
    except (EnvpackError, ValueError, RecursionError):
        return None
    return PathsTable(segments, digests) if text[position:].rstrip("\n") == _TABLE_END else None


def _content_as_written(segment: Any, text: str, start: int) -> str | None:
    """Return the segment's `segment_content` if it is what ``text`` has at ``start``; None otherwise."""
    if type(segment) is not dict or [*segment] != ["id", "placeholders", "paths"]:
        return None
    content, beginning = segment_content(segment), f'{{"id":{json.dumps(segment["id"])},'
    as_written = text.startswith(beginning, start) and text.startswith(content, start + len(beginning))
    return content if as_written else None


def _read_segment(segment: dict[str, Any]) -> tuple[PathRecord, ...]:
    items = JsonValue(segment["placeholders"], None, "placeholders").items()
    placeholders = tuple(read_placeholder(item) for item in items)
    return tuple(_read_records(JsonValue(segment["paths"], None, "paths").values(), placeholders))


_PLAIN = ("path", "type", "mode", "size", "sha256", "offset", "mtime")
_PLAIN_KEYS = frozenset(_PLAIN)
_RELOCATED_KEYS = frozenset((*_PLAIN, "relocation"))
_plain_fields = itemgetter(*_PLAIN)

_AT_ONCE = 1024
"""Records that are checked together."""


def _read_records(values: list[Any], placeholders: tuple[bytes, ...]) -> Iterator[PathRecord]:
    """Iterate over the records of a segment.

    Files with ASCII names, which nearly all are, are checked many at a time, in a fraction of the time.
    """
    for start in range(0, len(values), _AT_ONCE):
        batch = values[start : start + _AT_ONCE]
        rows = [_plain_fields(value) if _may_be_plain(value) else None for value in batch]
        plain = _are_plain([row for row in rows if row is not None])
        for value, row in zip(batch, rows):
            if row is None or not plain:
                yield read_record(JsonValue(value, None, "record"), placeholders)
                continue
            path, _, mode, size, sha256, offset, mtime = row
            relocation = None
            if len(value) > len(row):
                node = JsonValue(value["relocation"], None, "relocation")
                relocation = read_relocation(node, placeholders, size)
            yield PathRecord(path, "file", mode, size, sha256, offset, mtime, "", relocation)


def _may_be_plain(value: Any) -> bool:
    if type(value) is not dict or (value.keys() != _PLAIN_KEYS and value.keys() != _RELOCATED_KEYS):
        return False
    path = value["path"]
    return type(path) is str and path.isascii()


def _are_plain(rows: Sequence[tuple[Any, ...]]) -> bool:
    """Return whether each row is a valid path, type, mode, size, digest, offset and mtime of a file.

    False also where only the check of a single record can decide.
    """
    if not rows:
        return True
    paths, types, modes, sizes, digests, offsets, mtimes = zip(*rows)
    if set(map(type, digests)) != {str}:
        return False
    names = "/" + "/\n/".join(paths) + "/"
    return (
        types.count("file") == len(rows)
        and set(map(type, (*modes, *sizes, *offsets, *mtimes))) == {int}
        and min(*modes, *sizes, *offsets, *mtimes) >= 0
        and max(modes) <= 0o777
        and max(*sizes, *offsets) < 1 << 63
        and max(mtimes) <= limits.MAX_MTIME
        and set(map(len, digests)) == {64}
        and not "".join(digests).encode("ascii", "replace").translate(None, b"0123456789abcdef")
        and max(map(len, paths)) <= limits.MAX_PATH
        and names.count("\n") == len(rows) - 1
        and not any(part in names for part in ("//", "/./", "/../", "\0"))
    )
