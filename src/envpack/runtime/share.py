"""Files of a store in a deployment: cloned where the filesystem can do that, else hard links, else copies.

Files with a prefix written in are a deployment's own, made from the stored bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, Sequence

from envpack.runtime.document import table_from_json
from envpack.runtime.extract import Tree, write_head
from envpack.runtime.model import PathRecord, PathsTable
from envpack.runtime.onetree import check_bundle_tree
from envpack.runtime.reader import Bundle
from envpack.runtime.report import Step
from envpack.runtime.store import Filling, Store, segment_keys, store_file
from envpack.runtime.stream import Frames, entries

FICLONE = 0x40049409
"""ioctl_ficlonerange(2): _IOW(0x94, 9, int) of <linux/fs.h>."""

_CANT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ETXTBSY}
_CANT_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
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
    table = table_from_json(table_bytes)
    check_bundle_tree(bundle.manifest, table)
    keys = segment_keys(table_bytes)
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
    store.register(prefix, hashlib.sha256(bundle.manifest_bytes).hexdigest(), planned.keys)
    tree = Tree(os.fsencode(root), os.fsencode(prefix))
    write_head(tree, bundle, planned.table_bytes)
    sharing = Sharing(tree)
    segments = [segment for segment in bundle.manifest.segments if segment.id in planned.keys]
    missing = [segment.id for segment in segments if segment.id not in planned.stored]
    read = 0
    with ExitStack() as stack:
        frames = stack.enter_context(Frames(bundle, missing, jobs))
        filling = stack.enter_context(Filling(store))
        for segment in segments:
            id, key = segment.id, planned.keys[segment.id]
            records = planned.table.segments[id]
            if id in planned.stored:
                sharing.place(records, store.folder(key))
                step.advance(segment.size)
                continue
            if store.is_damaged(key):
                for record, pieces in entries(frames.take(id), id, records, step):
                    tree.put(record, pieces)
                read += segment.stored
                continue
            folder = filling.claim(key)
            if folder is None:
                frames.skip(id)
                folder = store.folder(key)
                step.advance(segment.size)
            else:
                _fill(os.fsencode(folder), entries(frames.take(id), id, records, step))
                read += segment.stored
            sharing.place(records, folder)
            if folder.parent == store.work:
                filling.add(key, segment.size)
        tree.finish()
    return read


def _fill(folder: bytes, content: Iterable[tuple[PathRecord, Iterator[memoryview]]]) -> None:
    for index, (record, pieces) in enumerate(content):
        if record.type == "file":
            store_file(folder + b"/%d" % index, record, pieces)


class Sharing:
    """Puts a store's files into a tree. The first way that works is the one for all that follow: clones, links,
    copies. ``how`` says which, "" before the first file."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.how = ""
        self._ways: list[tuple[str, Callable[[bytes, bytes, PathRecord], None], set[int]]] = [
            ("clones", _clone, _CANT_CLONE),
            ("links", _link, _CANT_LINK),
            ("copies", _copy, set()),
        ]

    def place(self, records: Sequence[PathRecord], folder: Path) -> None:
        """The paths of a segment whose files lie in ``folder``."""
        tree, prefix = self._tree, os.fsencode(folder) + b"/"
        for index, record in enumerate(records):
            if record.type != "file":
                tree.add(record)
            elif record.relocation is not None:
                tree.write(record, _pieces(prefix + b"%d" % index))
            else:
                self._share(prefix + b"%d" % index, tree.place_for(record), record)

    def _share(self, source: bytes, target: bytes, record: PathRecord) -> None:
        while True:
            name, way, cant = self._ways[0]
            try:
                way(source, target, record)
            except OSError as problem:
                if problem.errno == errno.EMLINK:  # of this file only: ext4 takes 65,000 names
                    _copy(source, target, record)
                    return
                if problem.errno not in cant:
                    raise
                del self._ways[0]
                continue
            self.how = name
            return


def _clone(source: bytes, target: bytes, record: PathRecord) -> None:
    with _made(target, record) as out, _opened(source) as data:
        fcntl.ioctl(out, FICLONE, data)


def _link(source: bytes, target: bytes, record: PathRecord) -> None:
    os.link(source, target)


def _copy(source: bytes, target: bytes, record: PathRecord) -> None:
    with _made(target, record) as out:
        for piece in _pieces(source):
            view = memoryview(piece)
            while view:
                view = view[os.write(out, view) :]


@contextmanager
def _made(target: bytes, record: PathRecord) -> Iterator[int]:
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


def _pieces(path: bytes) -> Iterator[bytes]:
    with _opened(path) as fd:
        while True:
            piece = os.read(fd, _PIECE)
            if not piece:
                return
            yield piece
