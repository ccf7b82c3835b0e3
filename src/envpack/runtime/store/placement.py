"""Files of a store in a deployment: cloned where the filesystem can do that, else hard links, else copies.

Byte-code and binaries with a prefix written in are in the store, too, for the next deployment at that place; texts
and scripts with one are a deployment's own, as somebody may want to edit them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

from envpack.runtime.extract.tree_writer import Tree, made
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.clone import CANT_CLONE, FICLONE
from envpack.runtime.fs.io import opened, read_pieces, write_all

_CANT_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES))

MAX_PLACING = 4
"""Threads that make links: with more of them the filesystem's journal is what they wait for."""


def is_kept(record: PathRecord) -> bool:
    """Whether a file is kept in the store with a prefix in it: what is no text."""
    relocation = record.relocation
    return relocation is not None and bool(relocation.marshal or relocation.padded or relocation.strings)


class Placing:
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

    def __enter__(self) -> Placing:
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
