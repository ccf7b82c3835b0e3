"""Extraction of a bundle through a store: segments come from the store, or are unpacked into it first."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from envpack.runtime.errors import DestinationError
from envpack.runtime.extract.tree_writer import Tree, write_head
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import FramePrefetcher
from envpack.runtime.relocation.files import verify_digest
from envpack.runtime.report import Step
from envpack.runtime.store.ingest import SegmentIngest, StoredFile
from envpack.runtime.store.placement import MAX_PLACING, Placer, Placing
from envpack.runtime.store.store import Store


@dataclass(frozen=True)
class Plan:
    """The segments of a bundle that a store already has.

    Args:
        table_bytes: The bundle's paths table, as it is in the bundle.
        table: The same, parsed.
        keys: By segment id, the key of the segment's stored bytes.
        ready: Every key that is in the store.
        size: Bytes of the files that remain to be written.
    """

    table_bytes: bytes
    table: PathsTable
    keys: Mapping[str, str]
    ready: frozenset[str]
    size: int

    def has(self, id: str) -> bool:
        """Return whether a segment is in the store."""
        return self.keys[id] in self.ready

    @property
    def found(self) -> int:
        """The number of segments that need not be read from the bundle."""
        return sum(map(self.has, self.keys))


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


def extract_shared(
    bundle: Bundle, planned: Plan, root: Path, prefix: Path, step: Step, jobs: int, store: Store
) -> int:
    """Extract a bundle as `envpack.runtime.extract.extraction.Extraction` does, sharing files with ``store``.

    Segments that are not in the store are unpacked into it; those that are there are not read from the bundle. One
    that is marked as damaged is read and written to ``root`` only. Call it within ``store.in_use()``.

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
    with _into(store):
        digest = hashlib.sha256(bundle.manifest_bytes).hexdigest()
        store.register(prefix, digest, planned.keys.values())
    tree = Tree(os.fsencode(root), os.fsencode(prefix))
    write_head(tree, bundle, planned.table_bytes)
    placer = Placer(tree)
    segments = [segment for segment in bundle.manifest.segments if segment.id in planned.keys]
    missing = [segment.id for segment in segments if planned.keys[segment.id] not in planned.ready]
    read = 0
    with ExitStack() as stack:
        placing = stack.enter_context(Placing(placer, min(jobs, MAX_PLACING)))
        for segment in segments:
            if planned.has(segment.id):
                placing.add(planned.table.segments[segment.id], store.folder(planned.keys[segment.id]))
        frames = stack.enter_context(FramePrefetcher(bundle, missing, jobs))
        ingest = stack.enter_context(SegmentIngest(store))
        for segment in segments:
            id, key = segment.id, planned.keys[segment.id]
            records = planned.table.segments[id]
            if planned.has(id):
                continue
            if store.is_damaged(key):
                for record, pieces in entries(frames.take(id), id, records, step.advance):
                    tree.put(record, pieces)
                read += segment.stored
                continue
            with _into(store):
                if ingest.fill(key, segment.size, _unpacked(frames, id, records, step.advance)):
                    read += segment.stored
                else:
                    frames.skip(id)
                    step.advance(segment.size)
            placer.place(records, ingest.folder(key))
        with _into(store):
            ingest.publish()
        placing.finish()
        step.advance(sum(segment.size for segment in segments if segment.id not in missing))
        tree.finish()
    return read


def _unpacked(
    frames: FramePrefetcher, id: str, records: Sequence[PathRecord], advance: Callable[[int], None]
) -> Iterator[StoredFile]:
    """Yield a segment's files as the bundle stores them, verified."""
    for index, (record, pieces) in enumerate(entries(frames.take(id), id, records, advance)):
        if record.type == "file":
            yield index, record, verify_digest(pieces, record.path, record.sha256)


@contextmanager
def _into(store: Store) -> Iterator[None]:
    """Raise DestinationError for an OSError of the block: the store can't be written to, not the destination."""
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't write to the store {store.path}: {problem.strerror}",
            hint="Free some space ('envpack gc' removes what nothing uses), or deploy without a store.",
        ) from problem
