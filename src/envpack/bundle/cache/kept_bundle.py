"""A bundle in the segment cache: the list of its segments, as JSON, and the reading of one of them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from envpack.bundle.cache.cache_files import TABLE
from envpack.bundle.cache.signature import content_digest
from envpack.bundle.model import Limit, PackedSegment, PackFindings, SegmentIndex, StoredFrames, WrittenSegment
from envpack.runtime.format.changes import Unrelocatable
from envpack.runtime.format.manifest import Frame
from envpack.runtime.fs.io import open_regular


def segment_document(segment: WrittenSegment, found: PackFindings, table: int) -> dict[str, Any]:
    """Return the entry of a segment in the list of a bundle.

    Args:
        segment: The segment, as it is in the bundle.
        found: Findings about its files.
        table: Offset of its part of the paths table in the bundle's table file, in bytes.
    """
    index = segment.listing
    return {
        "content": content_digest(index),
        "offset": segment.offset,
        "frames": [[frame.stored, frame.size, frame.sha256] for frame in segment.frames],
        "table": [table, len(index.table)],
        "paths": index.paths,
        "size": index.size,
        "room": index.max_prefix_length,
        "limited_by": index.limited_by,
        "modified": found.modified,
        "unrelocatable": [[item.path, item.reason, item.matters] for item in found.unrelocatable],
        "unsearched": found.unsearched,
        "needs_activation": found.needs_activation,
        "limits": found.limits,
        "sources": found.sources,
        "asked": found.asked,
    }


def bundle_document(kind: str, place: Path, segments: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the list of a bundle.

    Args:
        kind: Identity of the code that packed it.
        place: Path of the bundle.
        segments: Entries of its segments, by id.

    Raises:
        OSError: The bundle is not there.
    """
    return {
        "kind": kind,
        "place": os.fsencode(place).decode("utf-8", "surrogateescape"),
        "status": _status(os.stat(place)),
        "segments": segments,
    }


class KeptBundle:
    """An open bundle in the cache.

    Args:
        path: Path of its list.
        document: The list.
        opened: Closes the bundle.

    Attributes:
        segments: Entries of its segments, by id.

    Raises:
        OSError: The bundle, or its list or table, can't be opened.
        ValueError: The bundle was changed since it was added.
    """

    def __init__(self, path: Path, document: dict[str, Any], opened: ExitStack) -> None:
        self.segments: dict[str, dict[str, Any]] = document["segments"]
        place = document["place"].encode("utf-8", "surrogateescape")
        self._descriptor = open_regular(place)
        opened.callback(os.close, self._descriptor)
        if _status(os.fstat(self._descriptor)) != document["status"]:
            raise ValueError("it was written to")
        self._table = open_regular(path.with_suffix(TABLE))
        opened.callback(os.close, self._table)
        os.utime(path)  # bundles in use are removed last

    def segment(self, id: str, content: str) -> PackedSegment | None:
        """Return the segment of this id if its content has the digest ``content``, else None."""
        entry = self.segments.get(id)
        if entry is None or entry["content"] != content:
            return None
        start, size = entry["table"]
        table = os.pread(self._table, size, start)
        index = SegmentIndex(id, table, entry["paths"], entry["size"], entry["room"], entry["limited_by"])
        if content_digest(index) != content:
            return None
        frames = tuple(Frame(*frame) for frame in entry["frames"])
        found = PackFindings(
            list(entry["modified"]),
            [Unrelocatable(*item) for item in entry["unrelocatable"]],
            list(entry["unsearched"]),
            list(entry["needs_activation"]),
            [Limit(*item) for item in entry["limits"]],
            list(entry["sources"]),
            asked=dict(entry["asked"]),
        )
        return PackedSegment(index, StoredFrames(frames, self._descriptor, entry["offset"], stay=True), found)


def _status(facts: os.stat_result) -> list[int]:
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns]
