"""Ingest of segments into a store: a segment is in the store as a whole, or not at all."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Iterable, Tuple, Union

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.io import create_file, write_pieces
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import remove_tree
from envpack.runtime.fs.sync import EARLY, begin_writing, sync_filesystem, sync_folder
from envpack.runtime.store.store import FOLDER_MODE, Store

BATCH = 512 << 20
"""Bytes of new segments that are written before they are synced and published: a sync writes all that is not yet
on the disk, and many syncs cost more than one."""

BATCH_SEGMENTS = 100
"""The number of segments that are written before they are published: each holds a lock, and a process may have
1,024 open files (the usual soft limit of RLIMIT_NOFILE)."""

StoredFile = Tuple[int, PathRecord, Iterable[Union[bytes, memoryview]]]
"""A file of a segment: the number of its record, the record, and the bytes to store."""


class SegmentIngest:
    """An ingest of segments into a store, as a context manager to use within ``store.in_use()``.

    Segments are unpacked into the store's work folder, synced, and published by one rename each. Each is locked,
    so that no two processes unpack the same one. A process that has to wait for a lock publishes its own segments
    and releases their locks first, so that no deadlock is possible.

    Methods raise OSError when the store can't be written to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claimed: set[str] = set()
        self._ready: list[str] = []
        self._size = 0
        self._locks = ExitStack()

    def fill(self, key: str, size: int, files: Iterable[StoredFile]) -> bool:
        """Unpack a segment; return False when another process has published it in the meantime.

        Args:
            key: The key of the segment.
            size: Its size in bytes, approximately.
            files: Its files; with False as the result, none of them is taken.
        """
        folder = self.claim(key)
        if folder is None:
            return False
        start = os.fsencode(folder) + b"/"
        for index, record, pieces in files:
            _store_file(start + b"%d" % index, record, pieces)
        self._add(key, size)
        return True

    def folder(self, key: str) -> Path:
        """Return the present folder of a segment: in the work folder until it is published, then in the store."""
        return self._store.work / key if key in self._claimed else self._store.folder(key)

    def claim(self, key: str) -> Path | None:
        """Lock a segment and return an empty folder to unpack it into.

        Returns None when the segment is in the store already. Waits while another process unpacks it, after
        publishing what is unpacked here.
        """
        lock = self._store.work / f"{key}.lock"
        held = ExitStack()
        try:
            held.enter_context(locked(lock, wait=False))
        except DestinationError:
            self.publish()
            held.enter_context(locked(lock, wait=True))
        if self._store.folder(key).is_dir():
            with suppress(OSError):
                os.unlink(lock)
            held.close()
            return None
        self._locks.push(held)
        held.callback(_unlink, lock)  # before it is released: a process that waits for it then sees a new file
        folder = self._store.work / key
        if folder.exists():
            remove_tree(folder)  # of a process that was killed
        folder.mkdir(FOLDER_MODE)
        self._claimed.add(key)
        return folder

    def _add(self, key: str, size: int) -> None:
        self._ready.append(key)
        self._size += size
        if self._size >= BATCH or len(self._ready) >= BATCH_SEGMENTS:
            self.publish()

    def publish(self) -> None:
        """Sync all segments that are unpacked, then rename them into the store and release their locks."""
        if self._ready:
            sync_filesystem(self._store.work)
            parents = set()
            for key in self._ready:
                target = self._store.folder(key)
                parents.add(target.parent)
                target.parent.mkdir(FOLDER_MODE, exist_ok=True)
                os.rename(self._store.work / key, target)
                self._claimed.discard(key)
            for parent in parents:
                sync_folder(parent)
            sync_folder(self._store.segments)
        self._ready, self._size = [], 0
        self._locks.close()

    def __enter__(self) -> SegmentIngest:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            for key in self._claimed:
                with suppress(OSError):
                    remove_tree(self._store.work / key)
            self._locks.close()


def _unlink(path: Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def stored_mode(mode: int) -> int:
    """Return the mode of a file in the store: readable by all users, executable as it was, writable by none."""
    return 0o555 if mode & 0o100 else 0o444


def _store_file(path: bytes, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
    def fill(fd: int) -> None:
        write_pieces(fd, pieces)
        if record.size >= EARLY:
            begin_writing(fd)

    create_file(path, stored_mode(record.mode), record.mtime, fill, exact=True)
