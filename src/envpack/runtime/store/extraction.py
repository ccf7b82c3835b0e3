"""Extraction of a bundle through a store: segments come from the store, or are unpacked into it first.

`plan` looks into the store, `actions` decides from that where each segment comes from, and `extract_shared` writes
it from there.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import AbstractSet, Callable, Iterator, Mapping, Sequence

from envpack.runtime.errors import DestinationError
from envpack.runtime.extract.tree_writer import Tree, write_head
from envpack.runtime.format.manifest import PathRecord, PathsTable, Segment
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import FramePrefetcher, frames_of
from envpack.runtime.relocation.files import verify_digest
from envpack.runtime.report import Step
from envpack.runtime.store.ingest import SegmentIngest, StoredFile
from envpack.runtime.store.placement import MAX_PLACING, Placer, PlacingPool
from envpack.runtime.store.store import Store
from envpack.runtime.tree.conda_digests import add_digests


@dataclass(frozen=True)
class Plan:
    """The segments of a bundle that a store has already.

    Args:
        table_bytes: The bundle's paths table, as it is in the bundle.
        table: The same, parsed.
        keys: By segment id, the key of the segment; only of segments with paths in them.
        ready: The keys that are in the store.
        size: Bytes of the files that remain to be written.
    """

    table_bytes: bytes
    table: PathsTable
    keys: Mapping[str, str]
    ready: frozenset[str]
    size: int

    @property
    def found(self) -> int:
        """The number of segments that need not be read from the bundle."""
        return sum(key in self.ready for key in self.keys.values())


def plan(bundle: Bundle, store: Store) -> Plan:
    """Read the bundle's paths table and return which of its segments the store has.

    Args:
        bundle: The bundle to extract.
        store: The store to look into.

    Raises:
        EnvpackError: The paths table can't be read, as in `table_from_json` and `check_bundle_tree`.
        OSError: The store can't be read.
    """
    table_bytes = bundle.table_bytes()
    table = table_from_json(table_bytes)
    check_bundle_tree(bundle.manifest, table)
    keys = {id: table.digests[id] for id, records in table.segments.items() if records}
    ready, size = set(), 0
    for id, key in keys.items():
        records = table.segments[id]
        if store.has(key, records):
            ready.add(key)
        else:
            size += sum(record.size for record in records)
        size += sum(record.size for record in records if record.relocation is not None)
    return Plan(table_bytes, table, keys, frozenset(ready), size)


class Action(Enum):
    """The source of a segment."""

    PLACE = "place it from the store"
    INGEST = "unpack it into the store, and place it from there"
    UNPACK = "unpack it into the tree only: the store has it, damaged"


def actions(
    segments: Sequence[Segment], keys: Mapping[str, str], ready: AbstractSet[str], damaged: AbstractSet[str]
) -> Iterator[tuple[Segment, Action]]:
    """Yield what is to be done for each segment, in the order of the bundle.

    Args:
        segments: The bundle's segments.
        keys: By segment id, the key; segments without one have no paths.
        ready: The keys that are in the store.
        damaged: The keys of segments that are marked as damaged.
    """
    for segment in segments:
        key = keys.get(segment.id)
        if key is None:
            continue
        if key in ready:
            yield segment, Action.PLACE
        else:
            yield segment, Action.UNPACK if key in damaged else Action.INGEST


def extract_shared(
    bundle: Bundle, planned: Plan, root: Path, prefix: Path, step: Step, jobs: int, store: Store
) -> int:
    """Extract a bundle as `envpack.runtime.extract.extraction.Extraction` does, sharing files with ``store``.

    Call it within ``store.in_use()``.

    Args:
        bundle: The bundle to extract.
        planned: What `plan` returned for this bundle and store.
        root: An empty folder to write into. When an error is raised, the caller removes what was written.
        prefix: The prefix to write into the files.
        step: The step that advances by uncompressed bytes.
        jobs: The number of threads.
        store: The store.

    Returns:
        Bytes of the bundle's segments that were read, as stored in the bundle.

    Raises:
        IntegrityError: The bundle is damaged or unsafe.
        DestinationError: The store can't be written to.
        OSError: ``root`` can't be written to.
    """
    with _store_errors(store):
        manifest_sha256 = hashlib.sha256(bundle.manifest_bytes).hexdigest()
        store.register(Path(os.path.realpath(prefix)), manifest_sha256, planned.keys.values())
        damaged = store.damaged_keys()
    tree = Tree(os.fsencode(root), os.fsencode(prefix))
    write_head(tree, bundle, planned.table_bytes)
    todo = list(actions(bundle.manifest.segments, planned.keys, planned.ready, damaged))
    placed = [segment for segment, action in todo if action is Action.PLACE]
    missing = [(segment, action) for segment, action in todo if action is not Action.PLACE]
    placer = Placer(tree)
    with ExitStack() as stack:
        pool = stack.enter_context(PlacingPool(placer, min(jobs, MAX_PLACING)))
        for segment in placed:  # threads place these while the others are read
            pool.add(planned.table.segments[segment.id], store.folder(planned.keys[segment.id]))
        to_read = frames_of(bundle, [segment.id for segment, _ in missing])
        frames = stack.enter_context(FramePrefetcher(bundle, to_read, jobs))
        ingest = stack.enter_context(SegmentIngest(store))
        supplier = _Supplier(store, planned, tree, placer, frames, ingest, step.advance)
        read = sum(supplier.supply(segment, action) for segment, action in missing)
        with _store_errors(store):
            ingest.publish()
        pool.finish()
        step.advance(sum(segment.size for segment in placed))
        add_digests(root, planned.table, tree.take_digests())
        tree.finish()
    return read


@dataclass(frozen=True)
class _Supplier:
    """The supplier of segments that are not in the store; each method returns the bytes read, as stored."""

    store: Store
    planned: Plan
    tree: Tree
    placer: Placer
    frames: FramePrefetcher
    ingest: SegmentIngest
    advance: Callable[[int], None]

    def supply(self, segment: Segment, action: Action) -> int:
        """Write a segment into the tree."""
        return self._through_store(segment) if action is Action.INGEST else self._from_bundle(segment)

    def _through_store(self, segment: Segment) -> int:
        """Unpack a segment into the store, unless another process has done so meanwhile, and place it."""
        key = self.planned.keys[segment.id]
        with _store_errors(self.store):
            is_read = self.ingest.fill(key, segment.size, self._verified(segment))
            if not is_read:
                self.frames.skip(segment.id)
                self.advance(segment.size)
        self.placer.place(self.planned.table.segments[segment.id], self.ingest.folder(key))
        return segment.stored if is_read else 0

    def _verified(self, segment: Segment) -> Iterator[StoredFile]:
        for index, (record, pieces) in enumerate(self._entries(segment)):
            if record.type == "file":
                yield index, record, verify_digest(pieces, record.path, record.sha256)

    def _from_bundle(self, segment: Segment) -> int:
        for record, pieces in self._entries(segment):
            self.tree.put(record, pieces)
        return segment.stored

    def _entries(self, segment: Segment) -> Iterator[tuple[PathRecord, Iterator[memoryview]]]:
        records = self.planned.table.segments[segment.id]
        return entries(self.frames.take(segment.id), segment.id, records, self.advance)


@contextmanager
def _store_errors(store: Store) -> Iterator[None]:
    """Raise DestinationError for an OSError of the block: the store can't be written to, not the destination."""
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't write to the store {store.path}: {problem.strerror}",
            hint="Free some disk space ('envpack gc' removes unused segments), or deploy without a store.",
        ) from problem
