"""Write a bundle into a folder with a store: its segments come from there, or go there first."""

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
from envpack.runtime.fs.io import read_pieces
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import Frames
from envpack.runtime.relocation.files import proved, with_prefix
from envpack.runtime.report import Step
from envpack.runtime.store.ingest import Filling, StoredFile
from envpack.runtime.store.placement import MAX_PLACING, Placing, Sharing, is_kept
from envpack.runtime.store.store import Store, settled_key


@dataclass(frozen=True)
class Plan:
    """What of a bundle a store has for a deployment at one place.

    ``keys``, ``settled``: by segment id, the key of its stored bytes, and of its files with that place written in,
    where it has such that are shared; ``ready``: every key that is there; ``size``: bytes of files to be written.
    """

    table_bytes: bytes
    table: PathsTable
    keys: Mapping[str, str]
    settled: Mapping[str, str]
    ready: frozenset[str]
    size: int

    def has(self, id: str) -> bool:
        """Whether a segment needs nothing but its files placed."""
        return self.keys[id] in self.ready and self.settled.get(id, self.keys[id]) in self.ready

    @property
    def found(self) -> int:
        """How many segments need not be read."""
        return sum(key in self.ready for key in self.keys.values())


def plan(bundle: Bundle, store: Store, destination: Path) -> Plan:
    """Reads the bundle's table and looks into the store. Raises what reading a table does."""
    table_bytes = bundle.table_bytes()
    table = table_from_json(table_bytes)
    check_bundle_tree(bundle.manifest, table)
    keys = {id: table.digests[id] for id, records in table.segments.items() if records}
    prefix, settled = os.fsencode(destination), {}
    if store.is_beside(destination):
        settled = {
            id: settled_key(key, prefix) for id, key in keys.items() if any(map(is_kept, table.segments[id]))
        }
    ready, size = set(), 0
    for id, key in keys.items():
        records = table.segments[id]
        if store.has(key, records):
            ready.add(key)
        else:
            size += sum(record.size for record in records)
        if id in settled and store.has(settled[id], records, is_kept):
            ready.add(settled[id])
        size += sum(
            record.size
            for record in records
            if record.relocation is not None and (settled.get(id) not in ready or not is_kept(record))
        )
    return Plan(table_bytes, table, keys, settled, frozenset(ready), size)


def extract_shared(
    bundle: Bundle, planned: Plan, root: Path, prefix: Path, step: Step, jobs: int, store: Store
) -> int:
    """As `envpack.runtime.extract.extraction.extract`, with every file that can be shared out of ``store``;
    returns the bytes of the bundle's segments that were read.

    Segments that the store lacks are unpacked into it; those it has are not read from the bundle. For within
    ``store.in_use()``.
    """
    with _into(store):
        digest = hashlib.sha256(bundle.manifest_bytes).hexdigest()
        store.register(prefix, digest, [*planned.keys.values(), *planned.settled.values()])
    tree = Tree(os.fsencode(root), os.fsencode(prefix))
    write_head(tree, bundle, planned.table_bytes)
    sharing = Sharing(tree)
    segments = [segment for segment in bundle.manifest.segments if segment.id in planned.keys]
    missing = [segment.id for segment in segments if planned.keys[segment.id] not in planned.ready]
    read = 0
    with ExitStack() as stack:
        placing = stack.enter_context(Placing(sharing, min(jobs, MAX_PLACING)))
        for segment in segments:
            if planned.has(segment.id):
                key, settled = planned.keys[segment.id], planned.settled.get(segment.id)
                folders = store.folder(key), store.folder(settled) if settled else None
                placing.add(planned.table.segments[segment.id], *folders)
        frames = stack.enter_context(Frames(bundle, missing, jobs))
        filling = stack.enter_context(Filling(store))
        for segment in segments:
            id, key, settled = segment.id, planned.keys[segment.id], planned.settled.get(segment.id)
            records = planned.table.segments[id]
            if planned.has(id):
                continue
            if id in missing and store.is_damaged(key):
                for record, pieces in entries(frames.take(id), id, records, step.advance):
                    tree.put(record, pieces)
                read += segment.stored
                continue
            with _into(store):
                if id in missing:
                    if filling.fill(key, segment.size, _unpacked(frames, id, records, step.advance)):
                        read += segment.stored
                    else:
                        frames.skip(id)
                        step.advance(segment.size)
                if settled is not None and store.is_damaged(settled):
                    settled = None
                if settled is not None and settled not in planned.ready:
                    size = sum(record.size for record in records if is_kept(record))
                    filling.fill(settled, size, _settled(filling, key, records, os.fsencode(prefix)))
            sharing.place(records, filling.folder(key), filling.folder(settled) if settled else None)
        with _into(store):
            filling.publish()
        placing.finish()
        step.advance(sum(segment.size for segment in segments if segment.id not in missing))
        tree.finish()
    return read


def _unpacked(
    frames: Frames, id: str, records: Sequence[PathRecord], advance: Callable[[int], None]
) -> Iterator[StoredFile]:
    """A segment's files as the bundle has them."""
    for index, (record, pieces) in enumerate(entries(frames.take(id), id, records, advance)):
        if record.type == "file":
            yield index, record, proved(pieces, record.path, record.sha256)


def _settled(filling: Filling, key: str, records: Sequence[PathRecord], prefix: bytes) -> Iterator[StoredFile]:
    """The files that are kept with ``prefix`` in them, from the stored bytes of the segment ``key``."""
    start = os.fsencode(filling.folder(key)) + b"/"
    for index, record in enumerate(records):
        if is_kept(record):
            yield (
                index,
                record,
                with_prefix(read_pieces(start + b"%d" % index), record.relocation, record.size, prefix),
            )


@contextmanager
def _into(store: Store) -> Iterator[None]:
    """Says that it is the store that can't be written to, not the destination."""
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't write to the store {store.path}: {problem.strerror}",
            hint="Free some space ('envpack gc' removes what nothing uses), or deploy without a store.",
        ) from problem
