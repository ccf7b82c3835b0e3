"""A tree being written: every file and folder is made anew, with its mode and time."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator

from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.format.manifest_json import digest_line
from envpack.runtime.fs.io import write_all
from envpack.runtime.fs.paths import umask
from envpack.runtime.fs.sync import EARLY, begin_writing
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.relocation.files import proved, with_prefix

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


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
            self.write(record, proved(pieces, record.path, record.sha256))
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
            for piece in with_prefix(pieces, record.relocation, record.size, self._prefix):
                write_all(fd, piece)
            os.utime(fd, (record.mtime, record.mtime))
            if record.size >= EARLY:
                begin_writing(fd)
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
