"""Files of a store in a deployment: cloned where the filesystem can do that, else hard links, else copies.

Files with a prefix written in are a deployment's own, made from the stored bytes.
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
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from envpack.runtime.document import parsed_table
from envpack.runtime.errors import DestinationError
from envpack.runtime.extract import Tree, write_head
from envpack.runtime.model import PathRecord, PathsTable
from envpack.runtime.onetree import check_bundle_tree
from envpack.runtime.reader import Bundle
from envpack.runtime.report import Step
from envpack.runtime.store import Filling, Store, segment_keys, store_file
from envpack.runtime.stream import Frames, entries

FICLONE = 0x40049409
"""ioctl_ficlonerange(2): _IOW(0x94, 9, int) of <linux/fs.h>."""

CANT_CLONE = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ETXTBSY)
)
_CANT_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES))

MAX_PLACING = 4
"""Threads that make links: with more of them the filesystem's journal is what they wait for."""

_PIECE = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True)
class Plan:
    """What of a bundle a store has. ``stored``: ids of segments that are there; ``size``: bytes of the others'
    files, and of those that can't be shared."""

    table_bytes: bytes
    table: PathsTable
    keys: Mapping[str, str]
    stored: frozenset[str]
    size: int


def plan(bundle: Bundle, store: Store) -> Plan:
    """Reads the bundle's table and looks into the store. Raises what reading a table does."""
    table_bytes = bundle.table_bytes()
    table, document = parsed_table(table_bytes)
    check_bundle_tree(bundle.manifest, table)
    keys = segment_keys(document)
    stored = frozenset(id for id, key in keys.items() if store.has(key, table.segments[id]))
    size = sum(
        record.size
        for id, records in table.segments.items()
        for record in records
        if record.relocation is not None or id not in stored
    )
    return Plan(table_bytes, table, keys, stored, size)


def extract_shared(
    bundle: Bundle, planned: Plan, root: Path, prefix: Path, step: Step, jobs: int, store: Store
) -> int:
    """As `envpack.runtime.extract.extract`, with every file that can be shared out of ``store``; returns the bytes
    of the bundle's segments that were read.

    Segments that the store lacks are unpacked into it; those it has are not read from the bundle. For within
    ``store.in_use()``.
    """
    with _into(store):
        store.register(prefix, hashlib.sha256(bundle.manifest_bytes).hexdigest(), planned.keys)
    tree = Tree(os.fsencode(root), os.fsencode(prefix))
    write_head(tree, bundle, planned.table_bytes)
    sharing = Sharing(tree)
    segments = [segment for segment in bundle.manifest.segments if segment.id in planned.keys]
    missing = [segment.id for segment in segments if segment.id not in planned.stored]
    read = 0
    with ExitStack() as stack:
        placing = stack.enter_context(_Placing(sharing, min(jobs, MAX_PLACING)))
        for segment in segments:
            if segment.id in planned.stored:
                placing.add(planned.table.segments[segment.id], store.folder(planned.keys[segment.id]))
        frames = stack.enter_context(Frames(bundle, missing, jobs))
        filling = stack.enter_context(Filling(store))
        for segment in segments:
            id, key = segment.id, planned.keys[segment.id]
            records = planned.table.segments[id]
            if id in planned.stored:
                continue
            if store.is_damaged(key):
                for record, pieces in entries(frames.take(id), id, records, step.advance):
                    tree.put(record, pieces)
                read += segment.stored
                continue
            with _into(store):
                folder = filling.claim(key)
            if folder is None:
                frames.skip(id)
                folder = store.folder(key)
                step.advance(segment.size)
            else:
                with _into(store):
                    _fill(os.fsencode(folder), entries(frames.take(id), id, records, step.advance))
                read += segment.stored
            sharing.place(records, folder)
            if folder.parent == store.work:
                with _into(store):
                    filling.add(key, segment.size)
        with _into(store):
            filling.publish()
        placing.finish()
        step.advance(sum(segment.size for segment in segments if segment.id in planned.stored))
        tree.finish()
    return read


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


def _fill(folder: bytes, content: Iterable[tuple[PathRecord, Iterator[memoryview]]]) -> None:
    for index, (record, pieces) in enumerate(content):
        if record.type == "file":
            store_file(folder + b"/%d" % index, record, pieces)


class _Placing:
    """Segments of the store being placed on threads: the kernel's part of making a link is most of it, and runs at
    the same time."""

    def __init__(self, sharing: Sharing, jobs: int) -> None:
        self._sharing = sharing
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="place")
        self._futures: list[Future[None]] = []

    def add(self, records: Sequence[PathRecord], folder: Path) -> None:
        self._futures.append(self._pool.submit(self._sharing.place, records, folder))

    def finish(self) -> None:
        """Waits for all of them; raises what one of them raised."""
        for future in self._futures:
            future.result()

    def __enter__(self) -> _Placing:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._futures:
            future.cancel()
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

    def place(self, records: Sequence[PathRecord], folder: Path) -> None:
        """The paths of a segment whose files lie in ``folder``."""
        tree, prefix = self._tree, os.fsencode(folder) + b"/"
        for index, record in enumerate(records):
            if record.type != "file":
                tree.add(record)
            elif record.relocation is not None:
                tree.write(record, _pieces(prefix + b"%d" % index, record.size))
            else:
                self._share(prefix + b"%d" % index, tree.place_for(record), record)

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
    with made(target, record) as out, _opened(source) as data:
        fcntl.ioctl(out, FICLONE, data)


def _link(source: bytes, target: bytes, record: PathRecord) -> None:
    os.link(source, target)


def _copy(source: bytes, target: bytes, record: PathRecord) -> None:
    with made(target, record) as out:
        for piece in _pieces(source, record.size):
            view = memoryview(piece)
            while view:
                view = view[os.write(out, view) :]


@contextmanager
def made(target: bytes, record: PathRecord) -> Iterator[int]:
    """A new file of the record's mode and time; gone again when the block fails."""
    fd = os.open(target, _NEW, record.mode)
    try:
        yield fd
        os.utime(fd, (record.mtime, record.mtime))
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(fd)


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _READ)
    try:
        yield fd
    finally:
        os.close(fd)


def _pieces(path: bytes, size: int) -> Iterator[bytes]:
    """The file's bytes, of which there are ``size``: asking for more makes room for them each time."""
    with _opened(path) as fd:
        while size > 0:
            piece = os.read(fd, min(size, _PIECE))
            if not piece:
                return
            size -= len(piece)
            yield piece
