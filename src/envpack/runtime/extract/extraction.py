"""Extraction of a bundle's tree into a folder; the destination's prefix is written in as the bytes pass.

Memory use stays at a few frames, however large the bundle is.
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
from envpack.runtime.parallel.processes import ProcessPool, can_fork
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import FramePrefetcher, frames_of
from envpack.runtime.reader.partition import Part, parts_of
from envpack.runtime.report import Step
from envpack.runtime.tree.conda_digests import add_digests


class SegmentSupplier(Protocol):
    """A source of segments that need not be read from the bundle."""

    def supply(self, manifest: Manifest, table: PathsTable, tree: Tree, step: Step, jobs: int) -> frozenset[str]:
        """Write whole segments of ``table`` into ``tree``.

        Args:
            manifest: The manifest of the bundle that is extracted.
            table: The paths table of that bundle.
            tree: The tree that is being written.
            step: The step that advances by uncompressed bytes.
            jobs: The number of threads.

        Returns:
            The ids of the segments that were written.
        """


class Extraction:
    """The extraction of a bundle into a folder, as a context manager.

    A pool of worker processes, each with a part of the bundle, writes the tree where the bundle is seekable and
    large enough for several parts. Otherwise this process reads the bundle in order.

    Args:
        bundle: The bundle to extract.
        root: An empty folder to write into. When an error is raised, the caller removes what was written.
        prefix: The prefix to write into the files.
        jobs: The number of processes or threads; with 1 there is no worker pool.
        supplier: Supplies segments, which are then not read from the bundle; with it there is no worker pool.

    Raises:
        IntegrityError: The bundle is damaged or unsafe.
    """

    def __init__(
        self, bundle: Bundle, root: Path, prefix: bytes, jobs: int, supplier: SegmentSupplier | None = None
    ) -> None:
        table_bytes = bundle.table_bytes()
        self.table = table_from_json(table_bytes)
        check_bundle_tree(bundle.manifest, self.table)
        self._bundle, self._jobs, self._supplier, self._root = bundle, jobs, supplier, root
        self._tree = Tree(os.fsencode(root), prefix)
        write_head(self._tree, bundle, table_bytes)
        self._pool: ProcessPool[dict[str, str]] | None = None

    def __enter__(self) -> Extraction:
        alone = self._jobs == 1 or not self._bundle.is_seekable or self._supplier is not None
        parts = [] if alone else parts_of(self._bundle, self.table)
        if len(parts) > 1 and can_fork():
            pool = ProcessPool(self._jobs, len(parts), lambda _, part, advance: self._write(parts[part], advance))
            with suppress(OSError):
                self._pool = pool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.__exit__(*error)

    def finish(self, step: Step) -> frozenset[str]:
        """Write the tree and return the ids of the segments that ``supplier`` supplied.

        ``step`` advances by uncompressed bytes.
        """
        supplied: frozenset[str] = frozenset()
        digests: dict[str, str] = {}
        if self._pool is not None:
            links = [record for record in self.table if record.type != "file"]
            for record in links:
                if record.type != "hardlink":
                    self._tree.add(record)
            for written in self._pool.results(step.advance):
                digests.update(written)
            for record in links:
                if record.type == "hardlink":
                    self._tree.add(record)
        else:
            supplied = self._stream(step)
        add_digests(self._root, self.table, {**digests, **self._tree.take_digests()})
        self._tree.finish()
        return supplied

    def _stream(self, step: Step) -> frozenset[str]:
        bundle, table, tree = self._bundle, self.table, self._tree
        segments = bundle.manifest.segments
        supplied: frozenset[str] = frozenset()
        if self._supplier is not None:
            supplied = self._supplier.supply(bundle.manifest, table, tree, step, self._jobs)
        missing = [segment.id for segment in segments if segment.id not in supplied]
        with FramePrefetcher(bundle, frames_of(bundle, missing), self._jobs) as frames:
            for id in missing:
                for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step.advance):
                    tree.put(record, pieces)
        return supplied

    def _write(self, part: Part, advance: Callable[[int], None]) -> dict[str, str]:
        """Write the files of a part, and return the digests of those with the prefix; links are made later."""
        for record, pieces in part.entries(self._bundle, advance):
            if record.type == "file":
                self._tree.put(record, pieces)
        return self._tree.take_digests()
