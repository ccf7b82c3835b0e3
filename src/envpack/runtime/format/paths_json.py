"""Reader and writer of the paths table's JSON.

``bundle/FORMAT.md`` is the specification. The reader works in bulk: tables have 100,000 entries and more.
"""

from __future__ import annotations

import json
from typing import Iterable

from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import bounded, has_long_number, parse
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import FORMAT, PathRecord, PathsTable
from envpack.runtime.format.manifest_json import known_format
from envpack.runtime.format.path_record_json import record_json, spelled
from envpack.runtime.format.paths_json_fast import TableReader, as_written

# --- writing ---


def table_to_json(table: PathsTable) -> bytes:
    """Return the paths table's bytes; names that are not UTF-8 have lone surrogates U+DC80-U+DCFF (PEP 383)."""
    return join_table(segment_to_json(id, records) for id, records in table.segments.items())


def segment_to_json(id: str, records: Iterable[PathRecord]) -> bytes:
    """Return the JSON of one segment in the paths table; it depends on this segment only."""
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

    Raises:
        FormatError: an entry is wrong; the message names it.
        IntegrityError: an entry is unsafe, or the table is beyond the limits.
    """
    bounds = {"most": limits.MAX_TABLE, "values": limits.MAX_TABLE_VALUES}
    text = bounded(data, PATHS_PATH, **bounds)
    table = None if has_long_number(data) else as_written(text)
    if table is None:
        del text
        table = TableReader()
        for segment in known_format(parse(data, PATHS_PATH, **bounds))["segments"].items():
            table.add(segment)
    return PathsTable(table.segments, table.digests)
