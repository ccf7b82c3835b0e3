"""Files of the deployment that stands at a destination, for the one that comes in its place.

Segments that are the same in both are not read from the bundle again. The old tree is anybody's to change, and so
nothing in it is believed: its paths table says what is worth a look, no link is followed, and every file has the
digest that the new table gives, proved by the bytes that were placed. A segment of which one file is not as it was
comes from the bundle, all of it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Sequence

from envpack.runtime.errors import EnvpackError, IntegrityError
from envpack.runtime.extract.tree_writer import Tree, made
from envpack.runtime.format.manifest import Manifest, PathRecord, PathsTable
from envpack.runtime.fs.clone import CANT_CLONE, FICLONE
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.relocation.files import digest_of
from envpack.runtime.relocation.relocation import splices
from envpack.runtime.relocation.splice import Splicer, inverse
from envpack.runtime.report import Step
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.prefix import check_prefix, written_prefix

_BATCH = 64
"""Files for one thread at a time."""

_PIECE = 128 << 10
"""Less than `envpack.runtime.relocation.files.proved` hands to its one thread: here files are hashed on
several."""

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def former_for(bundle: Bundle, root: Path) -> Former | None:
    """What is deployed at ``root``, where what ``bundle`` has in common with it is better taken from there.

    None where nothing is, or nothing that says what it has; for a stream, of which all is read anyway; and for a
    file on this host: on 2 processors, copying and hashing the old tree took 0.8 (zstd), 0.9 (gzip, libdeflate)
    and 0.5 (gzip, zlib) of the time of unpacking, both in memory, and where they are not it is three to five times
    as much to read.
    """
    if not bundle.is_far:
        return None
    try:
        manifest, table = read_head(root)
        prefix = written_prefix(root)
        if prefix is not None:
            check_prefix(manifest, prefix)
    except (EnvpackError, OSError):
        return None
    return Former(root, table, None if prefix is None else os.fsencode(prefix))


class Former:
    """The deployment at ``root``, of which ``table`` and ``prefix`` (None: none yet) are what it says itself."""

    def __init__(self, root: Path, table: PathsTable, prefix: bytes | None) -> None:
        self._root, self._table, self._prefix = os.fsencode(root), table, prefix
        self._clones = True

    def give(self, manifest: Manifest, table: PathsTable, tree: Tree, step: Step, jobs: int) -> frozenset[str]:
        """Puts what it has of ``table`` into ``tree``, on ``jobs`` threads; the ids of the segments that are there
        then, each whole. Of the others nothing is there. Raises OSError when the tree can't be written to.

        ``step`` advances by the segments' uncompressed bytes.
        """
        given = set()
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
                copied = [part.result() for part in parts]  # all of them have ended then
                if not all(copied):
                    _remove(tree, records)
                    continue
                for record in records:
                    if record.type != "file":
                        tree.add(record)
                given.add(id)
                step.advance(sizes[id])
        finally:
            for _, parts in copying:
                for part in parts:
                    part.cancel()
            pool.shutdown()
        return frozenset(given)

    def _copy(self, tree: Tree, records: Sequence[PathRecord]) -> bool:
        """Whether these files are in the tree now."""
        try:
            with _Folders(self._root) as folders:
                for record in records:
                    fd = folders.open(record.path)
                    try:
                        if record.relocation is not None or not self._cloned(tree, record, fd):
                            tree.put(record, self._stored(fd, record))
                    finally:
                        os.close(fd)
        except IntegrityError:
            return False
        return True

    def _cloned(self, tree: Tree, record: PathRecord, fd: int) -> bool:
        """False where the filesystem can't do that, for this file or any other."""
        if not self._clones:
            return False
        path = tree.place_for(record)
        try:
            with made(path, record) as out:
                fcntl.ioctl(out, FICLONE, fd)
        except OSError as problem:
            if problem.errno not in CANT_CLONE:
                raise
            self._clones = False
            return False
        if not _is(path, record):
            raise IntegrityError(f"{record.path!r} was changed")
        return True

    def _stored(self, fd: int, record: PathRecord) -> Iterator[bytes]:
        """A file's bytes as a bundle stores them. IntegrityError where it can't be that."""
        left, splicer = record.size, None
        if record.relocation is not None and self._prefix is not None:
            forward = splices(record.relocation, self._prefix)
            left += sum(len(new) - len(old) for _, old, new in forward)
            splicer = Splicer(inverse(forward))
        try:
            if os.fstat(fd).st_size != left:
                raise IntegrityError(f"{record.path!r} was changed")
            while left > 0:
                piece = os.read(fd, min(_PIECE, left))
                if not piece:
                    raise IntegrityError(f"{record.path!r} is being changed")
                left -= len(piece)
                yield from [piece] if splicer is None else splicer.feed(piece)
        except OSError as problem:
            raise IntegrityError(f"{record.path!r} can't be read: {problem.strerror}") from None
        if splicer is not None:
            yield from splicer.finish()


class _Folders:
    """Opens files below ``root`` folder by folder, so that no link is followed, also none that is put there
    meanwhile. The folders on the way to the last one stay open, for the next is likely to lie in them."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._way: list[tuple[bytes, int]] = []

    def open(self, path: str) -> int:
        """A descriptor of the plain file at ``path``. Raises IntegrityError where there is none."""
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
                self._way.append((part, os.open(part, _FOLDER, dir_fd=self._inside)))
            fd = os.open(name, _FILE, dir_fd=self._inside)
        except OSError as problem:
            raise IntegrityError(f"{path!r} can't be read: {problem.strerror}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise IntegrityError(f"{path!r} is no file")
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


def _is(path: bytes, record: PathRecord) -> bool:
    """Whether a file has the stored bytes of its record; False also where that can't be read."""
    try:
        fd = os.open(path, _FILE)
        try:
            return os.fstat(fd).st_size == record.size and digest_of(fd) == record.sha256
        finally:
            os.close(fd)
    except OSError:
        return False


def _remove(tree: Tree, records: Sequence[PathRecord]) -> None:
    """Takes the files of a segment away; links were not made yet, and folders may stay."""
    for record in records:
        if record.type == "file":
            with suppress(FileNotFoundError):
                os.unlink(tree.place_for(record))
