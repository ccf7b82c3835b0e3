"""Paths tables of tests, as JSON."""

from __future__ import annotations

from envpack.runtime.format.manifest import PathsTable
from envpack.runtime.format.paths_json import join_table, segment_to_json


def table_to_json(table: PathsTable) -> bytes:
    """Return the bytes of a paths table; the inverse of `table_from_json`."""
    return join_table(segment_to_json(id, records) for id, records in table.segments.items())
