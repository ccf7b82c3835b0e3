"""Reader and writer of the paths table's JSON.

``bundle/FORMAT.md`` is the specification.
"""

from __future__ import annotations

import json
from typing import Iterable

from envpack.runtime.errors import FormatError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import bounded, has_long_number, parse
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import FORMAT, PathRecord, PathsTable
from envpack.runtime.format.manifest_json import fact, known_format
from envpack.runtime.format.path_record_json import (
    content_digest,
    read_placeholder,
    read_record,
    record_json,
    segment_content,
    spelled,
)
from envpack.runtime.format.paths_json_fast import read_fast

# --- writing ---


def segment_to_json(id: str, records: Iterable[PathRecord]) -> bytes:
    """Return the JSON of one segment in the paths table; it depends on this segment only.

    Names that are not UTF-8 have lone surrogates U+DC80-U+DCFF (PEP 383).
    """
    placeholders: dict[bytes, int] = {}
    paths = [record_json(record, placeholders) for record in records]
    document = {"id": id, "placeholders": [spelled(placeholder) for placeholder in placeholders], "paths": paths}
    return json.dumps(document, separators=(",", ":")).encode()


def join_table(segments: Iterable[bytes]) -> bytes:
    """Return the paths table's bytes for these segments, each as `segment_to_json` returns it."""
    return b'{"format":%d,"segments":[%s]}\n' % (FORMAT, b",".join(segments))


# --- reading ---


def table_from_json(data: bytes) -> PathsTable:
    """Return the paths table that the JSON ``data`` describes.

    A table that is written as envpack writes it is read by `read_fast`; any other one, and every one with an error
    in it, by `read_strict`.

    Raises:
        FormatError: an entry is wrong; the message names it.
        IntegrityError: an entry is unsafe, or the table is beyond the limits.
    """
    text = bounded(data, PATHS_PATH, **_bounds())
    table = None if has_long_number(data) else read_fast(text)
    del text  # as large as the table
    return read_strict(data) if table is None else table


def read_strict(data: bytes) -> PathsTable:
    """Return what `table_from_json` returns, every value checked by itself; raise the same errors."""
    segments: dict[str, tuple[PathRecord, ...]] = {}
    digests: dict[str, str] = {}
    for segment in known_format(parse(data, PATHS_PATH, **_bounds()))["segments"].items():
        id = fact(segment["id"])
        if id in segments:
            raise FormatError(f"{segment.where}: a second segment {id!r}")
        placeholders = tuple(read_placeholder(item) for item in segment["placeholders"].items())
        segments[id] = tuple(read_record(item, placeholders) for item in segment["paths"].items())
        digests[id] = content_digest(segment_content(segment.value))
    return PathsTable(segments, digests)


def _bounds() -> dict[str, int]:
    return {"max_size": limits.MAX_TABLE, "max_values": limits.MAX_TABLE_VALUES}
