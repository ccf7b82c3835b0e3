"""Bulk reader of the paths table, which has 100,000 records and more.

Records that do not pass the bulk check are read by `envpack.runtime.format.path_record_json`, whose errors name
what is wrong.
"""

from __future__ import annotations

import hashlib
import json
from operator import itemgetter
from typing import Any, Iterator, Sequence

from envpack.runtime.errors import FormatError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import PLAIN, JsonValue
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import FORMAT, PathRecord
from envpack.runtime.format.manifest_json import fact
from envpack.runtime.format.path_record_json import read_placeholder, read_record, read_relocation

_TABLE_START, _TABLE_END = f'{{"format":{FORMAT},"segments":[', "]}"


class TableReader:
    """The paths table while it is read: records and digests by segment id."""

    def __init__(self) -> None:
        self.segments: dict[str, tuple[PathRecord, ...]] = {}
        self.digests: dict[str, str] = {}

    def add(self, segment: JsonValue, content: str = "") -> None:
        """Read one segment of the table.

        Args:
            segment: the JSON object of the segment.
            content: its JSON text without the id, as `_content` returns it; "" computes it.

        Raises:
            FormatError: the id is a duplicate, or an entry is wrong.
            IntegrityError: an entry is unsafe.
        """
        id = fact(segment["id"])
        if id in self.segments:
            raise FormatError(f"{segment.where}: a second segment {id!r}")
        placeholders = tuple(read_placeholder(item) for item in segment["placeholders"].items())
        self.segments[id] = tuple(read_records(segment["paths"], placeholders))
        self.digests[id] = _digest(content or _content(segment.value))


def as_written(text: str) -> TableReader | None:
    """Read a table whose JSON is exactly as `segment_to_json` writes it; return None for any other.

    It reads one segment after the other, so that memory holds the records and the JSON of one segment only. The
    caller reads any other table with `parse`.

    Raises:
        FormatError: a segment id is a duplicate, or an entry is wrong.
        IntegrityError: an entry is unsafe.
    """
    if not text.startswith(_TABLE_START):
        return None
    place, table = len(_TABLE_START), TableReader()
    segments = JsonValue(None, JsonValue(None, None, PATHS_PATH), "segments")
    while not text.startswith("]", place):
        next_place = _add_written(text, place, table, segments)
        if next_place is None:
            return None
        place = next_place + text.startswith(",{", next_place)
    return table if text[place:].rstrip("\n") == _TABLE_END else None


def _add_written(text: str, place: int, table: TableReader, segments: JsonValue) -> int | None:
    try:
        segment, end = PLAIN.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    if type(segment) is not dict or [*segment] != ["id", "placeholders", "paths"]:
        return None
    content, start = _content(segment), f'{{"id":{json.dumps(segment["id"])},'
    if not text.startswith(start, place) or not text.startswith(content, place + len(start)):
        return None
    table.add(JsonValue(segment, segments, len(table.segments)), content)
    return end


def _content(segment: dict[str, Any]) -> str:
    """Return the JSON text of a segment after its id, as `segment_to_json` writes it."""
    content = {"placeholders": segment["placeholders"], "paths": segment["paths"]}
    try:
        return json.dumps(content, separators=(",", ":"))[1:]
    except RecursionError:
        raise FormatError(f"{PATHS_PATH}: nested too deep") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


_PLAIN = ("path", "type", "mode", "size", "sha256", "offset", "mtime")
_PLAIN_KEYS = frozenset(_PLAIN)
_RELOCATED_KEYS = frozenset((*_PLAIN, "relocation"))
_plain_fields = itemgetter(*_PLAIN)

_AT_ONCE = 1024
"""Records that are checked together."""


def read_records(paths: JsonValue, placeholders: tuple[bytes, ...]) -> Iterator[PathRecord]:
    """Iterate over the records of a segment.

    Files with ASCII names, which nearly all are, are checked many at a time, in a fraction of the time.

    Args:
        paths: the JSON list of records.
        placeholders: the segment's placeholders, by index.

    Raises:
        FormatError: a record is wrong; the message names the field.
        IntegrityError: a record has an unsafe path or a value beyond the limits.
    """
    for start in range(0, len(paths.values()), _AT_ONCE):
        values = paths.values()[start : start + _AT_ONCE]
        rows = [_plain_fields(value) if _may_be_plain(value) else None for value in values]
        plain = _are_plain([row for row in rows if row is not None])
        for index, (value, row) in enumerate(zip(values, rows), start):
            if row is None or not plain:
                yield read_record(JsonValue(value, paths, index), placeholders)
                continue
            path, _, mode, size, sha256, offset, mtime = row
            relocation = None
            if len(value) > len(row):
                place = JsonValue(value["relocation"], JsonValue(value, paths, index), "relocation")
                relocation = read_relocation(place, placeholders, size)
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
