"""Writing a bundle's tree into a folder, the destination's prefix going in while the bytes pass.

Frames are read, verified and decompressed on threads; files are written in order by the caller's thread, so
memory stays at a few frames however large the bundle is.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator

from envpack.runtime import tar
from envpack.runtime.document import table_from_json
from envpack.runtime.errors import IntegrityError
from envpack.runtime.model import DIGEST_PATH, HEAD_PATHS, MANIFEST_PATH, PATHS_PATH, PathRecord, PathsTable
from envpack.runtime.place import umask
from envpack.runtime.reader import END_SEGMENT, Bundle, digest_line
from envpack.runtime.relocate import Splicer, splices
from envpack.runtime.report import Step

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


def extract(bundle: Bundle, root: Path, prefix: bytes, step: Step, jobs: int) -> PathsTable:
    """Writes the whole bundle below ``root``, an empty folder, as it is to be at ``prefix``.

    ``step`` advances by the uncompressed bytes of each frame. Raises IntegrityError when the bundle is damaged
    or unsafe; what was written until then is the caller's to remove.
    """
    table_bytes = bundle.table_bytes()
    table = table_from_json(table_bytes)
    manifest = bundle.manifest
    check_tree(table, [segment.id for segment in manifest.segments], manifest.changes.outside)
    tree = Tree(os.fsencode(root), prefix)
    for path, data in (
        (MANIFEST_PATH, bundle.manifest_bytes),
        (DIGEST_PATH, digest_line(bundle.manifest_bytes)),
        (PATHS_PATH, table_bytes),
    ):
        tree.write(PathRecord(path, "file", size=len(data)), iter([data]))
    with ThreadPoolExecutor(jobs, thread_name_prefix="frame") as pool:
        frames = _loaded(bundle, pool, ahead=2 * jobs)
        for segment in bundle.manifest.segments:
            stream = _Stream(islice(frames, len(segment.frames)), segment.id, step)
            for record in table.segments.get(segment.id, ()):
                stream.expect(tar.header(record), f"the header of {record.path!r}")
                if record.type != "file":
                    tree.add(record)
                    continue
                if stream.position != record.offset:
                    raise IntegrityError(f"{record.path!r} does not begin where the paths table says")
                tree.write(record, stream.take(record.size))
                stream.expect(bytes(tar.padding(record.size)), f"the padding after {record.path!r}")
            if segment.id == END_SEGMENT:
                stream.expect(tar.END, "the end-of-archive marker")
            stream.finish()
    tree.finish()
    return table


def _loaded(bundle: Bundle, pool: ThreadPoolExecutor, ahead: int) -> Iterator[bytes]:
    pending: deque[Future[bytes]] = deque()
    todo = iter(bundle.frames())
    try:
        while True:
            for located in todo:
                pending.append(pool.submit(bundle.load, located))
                if len(pending) > ahead:
                    break
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def check_tree(table: PathsTable, segments: Iterable[str], outside: Iterable[str] = ()) -> None:
    """Refuses a table that does not describe one tree inside one folder.

    Raises IntegrityError for a path listed twice or below something that is no folder, for links that lead out
    and are not among those that the manifest says are to (``outside``), and for segments it does not have.
    """
    allowed = set(outside)
    unknown = set(table.segments) - set(segments)
    if unknown:
        raise IntegrityError(f"the paths table has segments the manifest has not: {', '.join(sorted(unknown))}")
    leaves: set[str] = set()
    for records in table.segments.values():
        files: set[str] = set()
        for record in records:
            if record.path in leaves:
                raise IntegrityError(f"the bundle has the path {record.path!r} twice")
            if record.path in HEAD_PATHS:
                raise IntegrityError(f"the bundle replaces its own {record.path}")
            leaves.add(record.path)
            if record.type == "file":
                files.add(record.path)
            elif record.type == "hardlink" and record.target not in files:
                raise IntegrityError(f"the hard link {record.path!r} has no file {record.target!r} before it")
            elif record.type == "symlink" and leads_out(record.path, record.target) and record.path not in allowed:
                raise IntegrityError(f"the link {record.path!r} leads out of the environment: {record.target!r}")
    folders = {record.path for record in table if record.type == "directory"}
    for path in leaves:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in leaves:
                raise IntegrityError(f"the bundle has {path!r} below {parent!r}, which is no folder")
            folders.add(parent)
            parent = parent.rpartition("/")[0]


def leads_out(path: str, target: str) -> bool:
    """Whether a link at ``path`` with this target points outside the environment, read as plain text."""
    if target.startswith("/") or not target:
        return True
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


class _Stream:
    """A segment's uncompressed bytes, taken off the front piece by piece without copying."""

    def __init__(self, chunks: Iterator[bytes], id: str, step: Step) -> None:
        self._chunks, self._id, self._step = chunks, id, step
        self._view = memoryview(b"")
        self.position = 0

    def take(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._view:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise IntegrityError(f"segment {self._id} ends before its last file does")
                self._view = memoryview(chunk)
                self._step.advance(len(chunk))
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def expect(self, expected: bytes, what: str) -> None:
        if b"".join(self.take(len(expected))) != expected:
            raise IntegrityError(f"segment {self._id}: {what} is not as the paths table has it")

    def finish(self) -> None:
        if self._view or next(self._chunks, None) is not None:
            raise IntegrityError(f"segment {self._id} has more in it than the paths table")


class Tree:
    """The folder ``root`` being filled, as it is to be at ``prefix``.

    Nothing else writes there, and every file is created anew, never opened.
    """

    def __init__(self, root: bytes, prefix: bytes) -> None:
        self._root, self._prefix = root, prefix
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._umask = umask()
        self._made = {b""}
        self._modes: list[tuple[bytes, int]] = []

    def add(self, record: PathRecord) -> None:
        """A link or a folder."""
        name = os.fsencode(record.path)
        if record.type == "directory":
            self._folder(name)
            self._modes.append((name, record.mode))
            return
        self._folder(name.rpartition(b"/")[0])
        path = os.path.join(self._root, name)
        if record.type == "symlink":
            os.symlink(os.fsencode(record.target), path)
        else:
            os.link(os.path.join(self._root, os.fsencode(record.target)), path)

    def write(self, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
        """A file whose stored bytes are ``pieces``, the prefix put in."""
        name = os.fsencode(record.path)
        self._folder(name.rpartition(b"/")[0])
        fd = os.open(os.path.join(self._root, name), _NEW, record.mode)
        try:
            if record.relocation is not None:
                pieces = _spliced(pieces, Splicer(splices(record.relocation, self._prefix)))
            for piece in pieces:
                write_all(fd, piece)
            os.utime(fd, (record.mtime, record.mtime))
        finally:
            os.close(fd)

    def move(self, record: PathRecord, source: Path) -> None:
        """A file that lies at ``source`` already, as it is to be."""
        name = os.fsencode(record.path)
        self._folder(name.rpartition(b"/")[0])
        path = os.path.join(self._root, name)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(source, path)
        os.chmod(path, record.mode & ~self._umask)
        os.utime(path, (record.mtime, record.mtime))

    def _folder(self, name: bytes) -> None:
        if name in self._made:
            return
        self._folder(name.rpartition(b"/")[0])
        os.mkdir(os.path.join(self._root, name), 0o755)
        self._made.add(name)

    def finish(self) -> None:
        """Folder modes last, so that a folder without write permission can still be filled."""
        for name, mode in reversed(self._modes):
            os.chmod(os.path.join(self._root, name), mode & ~self._mask)


def _spliced(pieces: Iterable[bytes | memoryview], splicer: Splicer) -> Iterator[bytes]:
    for piece in pieces:
        yield from splicer.feed(bytes(piece))
    yield from splicer.finish()


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of ``data``, which write(2) need not do at once."""
    written = os.write(fd, data)
    while written < len(data):
        data = data[written:]
        written = os.write(fd, data)
