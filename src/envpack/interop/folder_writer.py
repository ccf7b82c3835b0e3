"""A deployment written from an environment that was read, with manifest and paths table as from a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from envpack.bundle.model import Item, SegmentIndex, segment_index
from envpack.bundle.reader_limits import check_table
from envpack.bundle.writer import complete
from envpack.prefix.scan.windowed_file import FileChunk, in_memory
from envpack.runtime.extract.tree_writer import Tree, head_files
from envpack.runtime.format import tar
from envpack.runtime.format.manifest import Manifest, PathRecord, Segment
from envpack.runtime.format.manifest_json import manifest_to_json
from envpack.runtime.tree.conda_digests import add_digests, is_conda_record

_PIECE = 1 << 20
_MIN_MOVE_SIZE = 1 << 16


class FolderWriter:
    """A writer that fills the folder ``root`` with the files as they are to be at ``prefix``.

    Files that need no change are moved from where they were unpacked, on the same disk. Files without room for the
    prefix are left out, unless it may have any length: the manifest's ``longest_prefix`` then shows that it is too
    long.
    """

    def __init__(self, root: Path, prefix: bytes, *, any_length: bool = False) -> None:
        self.stored = 0
        self.manifest_bytes = b""
        self._prefix, self._any_length = prefix, any_length
        self._root, self._tree = root, Tree(os.fsencode(root), prefix)
        self._segments: list[SegmentIndex] = []
        self._records: list[PathRecord] = []

    def add_segment(self, id: str, items: Iterable[Item]) -> None:
        """Write the paths of a segment; their offsets are those they would have in a bundle."""
        records: list[PathRecord] = []
        position = 0
        for item in items:
            record = item.record
            position += len(tar.header(record))
            if record.type == "file":
                record = record._replace(offset=position)
                position += record.size + tar.padding(record.size)
                self._write(record, item)
            else:
                self._tree.add(record)
            records.append(record)
            if record.type == "hardlink" or is_conda_record(record.path):
                self._records.append(record)
        self._segments.append(segment_index(id, records))

    def _write(self, record: PathRecord, item: Item) -> None:
        longest = record.relocation.max_prefix_length if record.relocation is not None else None
        if longest is not None and longest < len(self._prefix) and not self._any_length:
            return
        if item.source and record.relocation is None and _is_movable(Path(item.source)):
            self._tree.move(record, Path(item.source))
        else:
            self._tree.write(record, _split(item.pieces))

    def finish(self, draft: Manifest) -> Manifest:
        """Complete ``draft``, write manifest, digest and paths table, and return the completed manifest."""
        manifest, table = complete(draft, self._segments)
        add_digests(self._root, self._records, self._tree.take_digests())
        check_table(table)
        manifest = replace(manifest, segments=tuple(Segment(segment.id, ()) for segment in self._segments))
        self.manifest_bytes = manifest_to_json(manifest)
        for path, data in head_files(self.manifest_bytes, table):
            self._tree.write(PathRecord(path, "file", size=len(data)), [data])
        self._tree.finish()
        return manifest


def _is_movable(source: Path) -> bool:
    """Return whether a file is moved and not copied.

    A file is copied when it has other hard links, when it is small, or when it is Python source or byte-code:
    byte-code stored later is compared with its source.
    """
    facts = source.stat()
    return facts.st_nlink == 1 and facts.st_size >= _MIN_MOVE_SIZE and source.suffix not in (".py", ".pyc")


def _split(pieces: Iterable[FileChunk]) -> Iterator[memoryview]:
    """Yield the same bytes in pieces of at most `_PIECE` bytes, to be copied one at a time."""
    for piece in in_memory(pieces):
        view = memoryview(piece)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
