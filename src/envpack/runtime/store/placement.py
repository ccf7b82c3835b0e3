"""Placement of a store's files in a deployment: as clones where possible, else hard links, else copies.

Files with a prefix written in are not shared: each deployment gets its own.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

from envpack.runtime.extract.tree_writer import Tree
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.io import create_file, opened, read_pieces, write_pieces
from envpack.runtime.fs.links import CANT_CLONE, CANT_LINK, clone_file

MAX_PLACING = 4
"""The most threads that make links: more of them only wait for the filesystem's journal."""


class PlacingPool:
    """A thread pool that places segments of the store, as a context manager.

    Most of the time for a link is spent in the kernel, where several threads run at the same time. With one job
    there are no threads, and each segment is placed as it is added.
    """

    def __init__(self, placer: Placer, jobs: int) -> None:
        self._placer = placer
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="place") if jobs > 1 else None
        self._futures: list[Future[None]] = []

    def add(self, records: Sequence[PathRecord], folder: Path) -> None:
        if self._pool is None:
            self._placer.place(records, folder)
        else:
            self._futures.append(self._pool.submit(self._placer.place, records, folder))

    def finish(self) -> None:
        """Wait until all segments are placed; raise the error of a thread that failed."""
        for future in self._futures:
            future.result()

    def __enter__(self) -> PlacingPool:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._futures:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()


class Placer:
    """The placement of a store's files in a tree, from one thread or several.

    Clones are tried first, then hard links, then copies; the first method that works is used for all files that
    follow.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._methods: tuple[_Method, ...] = (
            _Method(_clone, CANT_CLONE),
            _Method(_link, CANT_LINK),
            _Method(_copy, frozenset()),
        )

    def place(self, records: Sequence[PathRecord], folder: Path) -> None:
        """Write the paths of a segment into the tree.

        Args:
            records: The records of the segment.
            folder: The folder of its stored bytes.

        Raises:
            OSError: A file can't be written, or not be read from the store.
        """
        tree, start = self._tree, os.fsencode(folder) + b"/"
        for index, record in enumerate(records):
            if record.type != "file":
                tree.add(record)
            elif record.relocation is None:
                self._share(start + b"%d" % index, tree.path_for(record), record)
            else:
                tree.write(record, read_pieces(start + b"%d" % index))

    def _share(self, source: bytes, target: bytes, record: PathRecord) -> None:
        method = self._methods[0]
        try:
            method.make(source, target, record)
        except OSError as problem:
            if problem.errno == errno.EMLINK:  # for this file only: ext4 allows 65,000 links to a file
                _copy(source, target, record)
            elif problem.errno in method.impossible:
                if self._methods[0] is method:  # another thread may have found that out meanwhile
                    self._methods = self._methods[1:]
                self._share(source, target, record)
            else:
                raise


class _Method(NamedTuple):
    """A method of sharing a file, and the error numbers that say it is not possible for any file."""

    make: Callable[[bytes, bytes, PathRecord], None]
    impossible: frozenset[int]


def _clone(source: bytes, target: bytes, record: PathRecord) -> None:
    with opened(source) as fd:
        clone_file(fd, target, record.mode, record.mtime)


def _link(source: bytes, target: bytes, record: PathRecord) -> None:
    os.link(source, target)


def _copy(source: bytes, target: bytes, record: PathRecord) -> None:
    create_file(target, record.mode, record.mtime, lambda fd: write_pieces(fd, read_pieces(source)))
