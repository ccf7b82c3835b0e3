"""Writing a bundle's tree into a folder, the destination's prefix going in while the bytes pass.

Frames are read, verified and decompressed on threads; files are written in order by the caller's thread, so
memory stays at a few frames however large the bundle is.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Iterator

from envpack.runtime.document import table_from_json
from envpack.runtime.model import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH, PathRecord, PathsTable
from envpack.runtime.onetree import check_bundle_tree
from envpack.runtime.place import umask
from envpack.runtime.reader import Bundle, digest_line
from envpack.runtime.relocate import Splicer, splices
from envpack.runtime.report import Step
from envpack.runtime.stream import Frames, entries, proved

if TYPE_CHECKING:
    from envpack.runtime.reuse import Former

AT_ONCE = 128 << 10
"""Bytes of one write(2): what cp(1) takes, whose ioblksize.h has figures. 4 MiB at once took a third longer."""

_JOINED = 1 << 20
"""Bytes of a file whose pieces around its prefixes are written together."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


def extract(
    bundle: Bundle, root: Path, prefix: bytes, step: Step, jobs: int, former: Former | None = None
) -> tuple[PathsTable, frozenset[str]]:
    """Writes the whole bundle below ``root``, an empty folder, as it is to be at ``prefix``; segments that
    ``former`` has come from there, and are not read. Returns the table and the ids of those.

    ``step`` advances by the uncompressed bytes of each frame. Raises IntegrityError when the bundle is damaged
    or unsafe; what was written until then is the caller's to remove.
    """
    table_bytes = bundle.table_bytes()
    table = table_from_json(table_bytes)
    manifest = bundle.manifest
    check_bundle_tree(manifest, table)
    tree = Tree(os.fsencode(root), prefix)
    write_head(tree, bundle, table_bytes)
    given = former.give(manifest, table, tree, step, jobs) if former is not None else frozenset()
    wanted = [segment.id for segment in manifest.segments if segment.id not in given]
    with Frames(bundle, wanted, jobs) as frames:
        for id in wanted:
            for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step):
                tree.put(record, pieces)
    tree.finish()
    return table, given


def write_head(tree: Tree, bundle: Bundle, table_bytes: bytes) -> None:
    """Manifest, digest and table, as they are in the bundle."""
    for path, data in (
        (MANIFEST_PATH, bundle.manifest_bytes),
        (DIGEST_PATH, digest_line(bundle.manifest_bytes)),
        (PATHS_PATH, table_bytes),
    ):
        tree.write(PathRecord(path, "file", size=len(data)), iter([data]))


class Tree:
    """The folder ``root`` being filled, as it is to be at ``prefix``.

    Nothing else writes there, and every file is created anew, never opened. Several threads may each put paths
    there; hard links after their file.
    """

    def __init__(self, root: bytes, prefix: bytes) -> None:
        self._root, self._prefix = root, prefix
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._umask = umask()
        self._made = {b""}
        self._modes: list[tuple[bytes, int]] = []

    def put(self, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
        """A path of any type; ``pieces``: a file's stored bytes, which are proved."""
        if record.type == "file":
            self.write(record, proved(record, pieces))
        else:
            self.add(record)

    def place_for(self, record: PathRecord) -> bytes:
        """Where to make a path; its folder is there."""
        name = os.fsencode(record.path)
        self._folder(name.rpartition(b"/")[0])
        return self._root + b"/" + name

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
                pieces = [b"".join(pieces)] if record.size <= _JOINED else pieces
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
        with suppress(FileExistsError):  # of another thread that is at it
            os.mkdir(os.path.join(self._root, name), 0o755)
        self._made.add(name)

    def finish(self) -> None:
        """Folder modes last, so that a folder without write permission can still be filled."""
        for name, mode in sorted(self._modes, reverse=True):  # what is in a folder before the folder
            os.chmod(os.path.join(self._root, name), mode & ~self._mask)


def _spliced(pieces: Iterable[bytes | memoryview], splicer: Splicer) -> Iterator[bytes]:
    for piece in pieces:
        yield from splicer.feed(bytes(piece))
    yield from splicer.finish()


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes all of ``data``, which write(2) need not do at once."""
    if len(data) > AT_ONCE:
        data = memoryview(data)
    done = 0
    while done < len(data):
        done += os.write(fd, data[done : done + AT_ONCE])
