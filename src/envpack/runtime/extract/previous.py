"""Reuse of unchanged segments of the current deployment by the deployment that replaces it.

Segments that are the same in both are not read from the bundle again. Any program may have changed the old tree,
so nothing in it is trusted: its paths table only says which segments to try, no link is followed, and every file
is verified against the digest in the new table, by the bytes that were written. If one file of a segment was
changed, the whole segment is read from the bundle.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from envpack.runtime.errors import EnvpackError, IntegrityError
from envpack.runtime.extract.tree_writer import Tree
from envpack.runtime.format.manifest import Manifest, PathRecord, PathsTable
from envpack.runtime.fs.io import READ_FOLDER, READ_UNTRUSTED
from envpack.runtime.fs.links import CANT_CLONE, clone_file
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.relocation.files import deployed_size, stored_digest, stored_pieces
from envpack.runtime.report import Step
from envpack.runtime.tree.conda_digests import is_conda_record, may_have_digests, stored_record
from envpack.runtime.tree.head import allows_room, read_head
from envpack.runtime.tree.prefix import check_prefix, installed_prefix

_BATCH = 64
"""The number of files in one unit of work of a thread."""

_PIECE = 128 << 10
"""Bytes per read: fewer than `envpack.runtime.relocation.files.verify_digest` hands to its one thread, because
here several threads hash files."""


def previous_deployment(bundle: Bundle, root: Path) -> PreviousDeployment | None:
    """Return the deployment at ``root``, if taking segments from it is worth more than reading ``bundle``.

    Returns None where nothing is deployed, or its manifest, paths table or prefix can't be read; for a stream, all
    of which is read anyway; and for a file on this host: on 2 processors, copying and hashing the old tree took
    0.8 (zstd), 0.9 (gzip, libdeflate) and 0.5 (gzip, zlib) of the time of unpacking, with both in memory. Where
    they are not in memory, the old tree is three to five times as much to read.
    """
    if not bundle.is_remote:
        return None
    try:
        manifest, table, _ = read_head(root)
        prefix = installed_prefix(root)
        if prefix is not None:
            check_prefix(manifest, prefix, any_length=allows_room(root))
    except (EnvpackError, OSError):
        return None
    return PreviousDeployment(root, table, None if prefix is None else os.fsencode(prefix))


class PreviousDeployment:
    """The current deployment, as a supplier of segments for the next one.

    Args:
        root: The folder of the deployment.
        table: Its own paths table, which is not trusted.
        prefix: The prefix written into its files, as the tree itself states it; None when there is none yet.
    """

    def __init__(self, root: Path, table: PathsTable, prefix: bytes | None) -> None:
        self._root, self._table, self._prefix = os.fsencode(root), table, prefix
        self._clones = True

    def supply(self, manifest: Manifest, table: PathsTable, tree: Tree, step: Step, jobs: int) -> frozenset[str]:
        """Copy the unchanged segments of ``table`` into ``tree``.

        Args:
            manifest: The manifest of the new bundle.
            table: The paths table of the new bundle.
            tree: The tree that is being written.
            step: The step that advances by the segments' uncompressed bytes.
            jobs: The number of threads.

        Returns:
            The ids of the segments that were copied, each whole. No file of any other segment is in the tree.

        Raises:
            OSError: The tree can't be written to.
        """
        supplied = set()
        copying: list[tuple[str, list[Future[bool]]]] = []
        sizes = {segment.id: segment.size for segment in manifest.segments}
        pool = threads(jobs, "reuse")
        try:
            for id in sizes:
                records = table.segments.get(id, ())
                if self._table.segments.get(id, ()) == records:
                    files = [record for record in records if record.type == "file"]
                    batches = (files[start : start + _BATCH] for start in range(0, len(files), _BATCH))
                    copying.append((id, [pool.submit(self._copy, tree, batch) for batch in batches]))
            for id, parts in copying:
                records = table.segments.get(id, ())
                copied = [part.result() for part in parts]  # waits for all of them
                if not all(copied):
                    _remove(tree, records)
                    continue
                for record in records:
                    if record.type != "file":
                        tree.add(record)
                supplied.add(id)
                step.advance(sizes[id])
        finally:
            for _, parts in copying:
                for part in parts:
                    part.cancel()
            pool.shutdown()
        return frozenset(supplied)

    def _copy(self, tree: Tree, records: Sequence[PathRecord]) -> bool:
        """Copy files into the tree; return False when one of them was changed or can't be read."""
        try:
            with _Folders(self._root) as folders:
                for record in records:
                    fd = folders.open(record.path)
                    try:
                        varies = record.relocation is not None or is_conda_record(record.path)
                        if varies or not self._cloned(tree, record, fd):
                            tree.put(record, self._stored(fd, record))
                    finally:
                        os.close(fd)
        except IntegrityError:
            return False
        return True

    def _cloned(self, tree: Tree, record: PathRecord, fd: int) -> bool:
        """Clone a file and verify its digest; return False where the filesystem can't clone files.

        After the first False no other file is tried. Raises IntegrityError when the file was changed.
        """
        if not self._clones:
            return False
        path = tree.path_for(record)
        try:
            clone_file(fd, path, record.mode, record.mtime)
        except OSError as problem:
            if problem.errno not in CANT_CLONE:
                raise
            self._clones = False
            return False
        if not _is(path, record):
            raise IntegrityError(f"{record.path!r} was changed")
        return True

    def _stored(self, fd: int, record: PathRecord) -> Iterable[bytes | memoryview]:
        """Return a file's bytes as a bundle stores them; raise IntegrityError when that is not possible."""
        size, found = deployed_size(record.relocation, record.size, self._prefix), os.fstat(fd).st_size
        if may_have_digests(record.path, found, record.size):
            return [stored_record(b"".join(_read(fd, found, record.path)))]
        if found != size:
            raise IntegrityError(f"{record.path!r} was changed")
        return stored_pieces(_read(fd, size, record.path), record.relocation, self._prefix)


class _Folders:
    """Open folders below ``root``, through which files are opened without following links.

    Each folder is opened relative to its parent, so that a link created in the meantime is not followed either.
    The folders of the last file stay open, because the next file probably lies in them.
    """

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._way: list[tuple[bytes, int]] = []

    def open(self, path: str) -> int:
        """Return a descriptor of the regular file at ``path``; raise IntegrityError where there is none."""
        *folders, name = os.fsencode(path).split(b"/")
        folders.insert(0, self._root)
        same = 0
        for part, (open_part, _) in zip(folders, self._way):
            if part != open_part:
                break
            same += 1
        self._close(same)
        try:
            for part in folders[same:]:
                self._way.append((part, os.open(part, READ_FOLDER, dir_fd=self._inside)))
            fd = os.open(name, READ_UNTRUSTED, dir_fd=self._inside)
        except OSError as problem:
            raise IntegrityError(f"{path!r} can't be read: {problem.strerror}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IntegrityError(f"{path!r} is not a file")
        return fd

    @property
    def _inside(self) -> int | None:
        return self._way[-1][1] if self._way else None

    def _close(self, keep: int) -> None:
        while len(self._way) > keep:
            os.close(self._way.pop()[1])

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *error: object) -> None:
        self._close(0)


def _read(fd: int, size: int, path: str) -> Iterator[bytes]:
    """Yield the ``size`` bytes of a file; raise IntegrityError when it can't be read."""
    while size > 0:
        try:
            piece = os.read(fd, min(_PIECE, size))
        except OSError as problem:
            raise IntegrityError(f"{path!r} can't be read: {problem.strerror}") from None
        if not piece:
            raise IntegrityError(f"{path!r} is being changed")
        size -= len(piece)
        yield piece


def _is(path: bytes, record: PathRecord) -> bool:
    """Return whether a file has the size and digest of its record; False also when it can't be read."""
    try:
        fd = os.open(path, READ_UNTRUSTED)
        try:
            return stored_digest(fd, None, record.size, None) == record.sha256
        finally:
            os.close(fd)
    except OSError:
        return False


def _remove(tree: Tree, records: Sequence[PathRecord]) -> None:
    """Remove the files of a segment; its links do not exist yet, and its folders may stay."""
    for record in records:
        if record.type == "file":
            with suppress(FileNotFoundError):
                os.unlink(tree.path_for(record))
