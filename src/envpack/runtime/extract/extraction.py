"""Writing a bundle's tree into a folder, the destination's prefix going in while the bytes pass.

Memory stays at a few frames however large the bundle is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, Protocol

from envpack.runtime.extract.tree_writer import Tree, write_head
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.parallel.processes import Crew, can_fork
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import Frames
from envpack.runtime.reader.partition import Part, parts_of
from envpack.runtime.report import Step


class SegmentSupplier(Protocol):
    """Gives segments that need not be read from the bundle."""

    def give(self, manifest: Manifest, table: PathsTable, tree: Tree, step: Step, jobs: int) -> frozenset[str]:
        """Puts whole segments of ``table`` into ``tree``, on ``jobs`` threads; their ids."""


class Extraction:
    """A bundle being written below ``root``, an empty folder, as it is to be at ``prefix``: by processes that each
    take a part of it, where it is a file and worth that, else as it comes. Segments that ``former`` has come from
    there, and are not read.

    A context manager. Raises IntegrityError when the bundle is damaged or unsafe; what was written until then is
    the caller's to remove.
    """

    def __init__(
        self, bundle: Bundle, root: Path, prefix: bytes, jobs: int, former: SegmentSupplier | None = None
    ) -> None:
        table_bytes = bundle.table_bytes()
        self.table = table_from_json(table_bytes)
        check_bundle_tree(bundle.manifest, self.table)
        self._bundle, self._jobs, self._former = bundle, jobs, former
        self._tree = Tree(os.fsencode(root), prefix)
        write_head(self._tree, bundle, table_bytes)
        self._crew: Crew[None] | None = None

    def __enter__(self) -> Extraction:
        alone = self._jobs == 1 or not self._bundle.is_file or self._former is not None
        parts = [] if alone else parts_of(self._bundle, self.table)
        if len(parts) > 1 and can_fork():
            crew = Crew(self._jobs, len(parts), lambda _, part, advance: self._write(parts[part], advance))
            with suppress(OSError):
                self._crew = crew.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._crew is not None:
            self._crew.__exit__(*error)

    def finish(self, step: Step) -> frozenset[str]:
        """Writes it; the ids of the segments that are of ``former``. ``step`` advances by uncompressed bytes."""
        given: frozenset[str] = frozenset()
        if self._crew is not None:
            links = [record for record in self.table if record.type != "file"]
            for record in links:
                if record.type != "hardlink":
                    self._tree.add(record)
            for _ in self._crew.results(step.advance):
                pass
            for record in links:
                if record.type == "hardlink":
                    self._tree.add(record)
        else:
            given = self._stream(step)
        self._tree.finish()
        return given

    def _stream(self, step: Step) -> frozenset[str]:
        bundle, table, tree = self._bundle, self.table, self._tree
        segments = bundle.manifest.segments
        given: frozenset[str] = frozenset()
        if self._former is not None:
            given = self._former.give(bundle.manifest, table, tree, step, self._jobs)
        wanted = [segment.id for segment in segments if segment.id not in given]
        with Frames(bundle, wanted, self._jobs) as frames:
            for id in wanted:
                for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step.advance):
                    tree.put(record, pieces)
        return given

    def _write(self, part: Part, advance: Callable[[int], None]) -> None:
        """The files of a part; links are made when all files are there."""
        for record, pieces in part.entries(self._bundle, advance):
            if record.type == "file":
                self._tree.put(record, pieces)
