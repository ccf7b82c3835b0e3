"""Files of a store in a deployment: cloned where the filesystem can do that, else hard links, else copies.

Byte-code and binaries with a prefix written in are in the store, too, for the next deployment at that place; texts
and scripts with one are a deployment's own, as somebody may want to edit them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

from envpack.runtime.errors import DestinationError
from envpack.runtime.extract.tree_writer import Tree, made, write_head
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.fs.clone import CANT_CLONE, FICLONE
from envpack.runtime.fs.io import opened, read_pieces, write_all
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import Frames
from envpack.runtime.relocation.files import proved, with_prefix
from envpack.runtime.report import Step
from envpack.runtime.store import Filling, Store, StoredFile, settled_key

_CANT_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES))

MAX_PLACING = 4
"""Threads that make links: with more of them the filesystem's journal is what they wait for."""


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


def is_kept(record: PathRecord) -> bool:
    """Whether a file is kept in the store with a prefix in it: what is no text."""
    relocation = record.relocation
    return relocation is not None and bool(relocation.marshal or relocation.padded or relocation.strings)


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
        placing = stack.enter_context(_Placing(sharing, min(jobs, MAX_PLACING)))
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


class _Placing:
    """Segments of the store being placed on threads: the kernel's part of making a link is most of it, and runs at
    the same time. With one job they are placed one after the other, at once."""

    def __init__(self, sharing: Sharing, jobs: int) -> None:
        self._sharing = sharing
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="place") if jobs > 1 else None
        self._futures: list[Future[None]] = []

    def add(self, records: Sequence[PathRecord], folder: Path, settled: Path | None) -> None:
        if self._pool is None:
            self._sharing.place(records, folder, settled)
        else:
            self._futures.append(self._pool.submit(self._sharing.place, records, folder, settled))

    def finish(self) -> None:
        """Waits for all of them; raises what one of them raised."""
        for future in self._futures:
            future.result()

    def __enter__(self) -> _Placing:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._futures:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()


class Sharing:
    """Puts a store's files into a tree, also from several threads. The first way that works is the one for all
    that follow: clones, links, copies. ``how`` says which, "" before the first file."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.how = ""
        self._ways: tuple[_Way, ...] = (
            _Way("clones", _clone, CANT_CLONE),
            _Way("links", _link, _CANT_LINK),
            _Way("copies", _copy, frozenset()),
        )

    def place(self, records: Sequence[PathRecord], folder: Path, settled: Path | None) -> None:
        """The paths of a segment whose files lie in ``folder``; ``settled``: where those that are kept with the
        prefix in them are."""
        tree, start = self._tree, os.fsencode(folder) + b"/"
        start_settled = os.fsencode(settled) + b"/" if settled else None
        for index, record in enumerate(records):
            if record.type != "file":
                tree.add(record)
            elif record.relocation is None:
                self._share(start + b"%d" % index, tree.place_for(record), record)
            elif start_settled is not None and is_kept(record):
                self._share(start_settled + b"%d" % index, tree.place_for(record), record)
            else:
                tree.write(record, read_pieces(start + b"%d" % index))

    def _share(self, source: bytes, target: bytes, record: PathRecord) -> None:
        way = self._ways[0]
        try:
            way.make(source, target, record)
            self.how = way.name
        except OSError as problem:
            if problem.errno == errno.EMLINK:  # of this file only: ext4 takes 65,000 names
                _copy(source, target, record)
            elif problem.errno in way.impossible:
                if self._ways[0] is way:  # another thread may have found that out meanwhile
                    self._ways = self._ways[1:]
                self._share(source, target, record)
            else:
                raise


class _Way(NamedTuple):
    """A way to share a file, and what the system answers where it is impossible for any file."""

    name: str
    make: Callable[[bytes, bytes, PathRecord], None]
    impossible: frozenset[int]


def _clone(source: bytes, target: bytes, record: PathRecord) -> None:
    with made(target, record) as out, opened(source) as data:
        fcntl.ioctl(out, FICLONE, data)


def _link(source: bytes, target: bytes, record: PathRecord) -> None:
    os.link(source, target)


def _copy(source: bytes, target: bytes, record: PathRecord) -> None:
    with made(target, record) as out:
        for piece in read_pieces(source):
            write_all(out, piece)
