"""Writer of a tree: every file and folder is created anew, with the mode and time of its record."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Iterable, Iterator

from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.format.manifest_json import digest_line
from envpack.runtime.fs.io import create_file, keep_owner, write_pieces
from envpack.runtime.fs.links import link_or_copy
from envpack.runtime.fs.paths import umask
from envpack.runtime.fs.sync import EARLY, begin_writing
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.relocation.files import deployed_bytes, hash_pieces, verify_digest
from envpack.runtime.tree.conda_digests import has_digest


def write_head(tree: Tree, bundle: Bundle, table_bytes: bytes) -> None:
    """Write the manifest, its digest and the paths table into the tree, as they are in the bundle.

    Args:
        tree: the tree.
        bundle: the bundle.
        table_bytes: the paths table, as it is in the bundle.
    """
    for path, data in head_files(bundle.manifest_bytes, table_bytes):
        tree.write(PathRecord(path, "file", size=len(data)), [data])


def head_files(manifest_bytes: bytes, table_bytes: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the path and the content of the manifest, its digest and the paths table in a tree."""
    digest = digest_line(manifest_bytes)
    return (MANIFEST_PATH, manifest_bytes), (DIGEST_PATH, digest), (PATHS_PATH, table_bytes)


class Tree:
    """A folder that is being filled with the files, links and folders of a bundle.

    Nothing else may write to the folder. Every file is created anew: a file that exists is never opened. Several
    threads may write at once; a hard link must come after its file. Methods raise OSError when the folder can't be
    written to.

    Args:
        root: The folder to fill.
        prefix: The prefix to write into the files.
        owner: The status whose owner and group the files get; None for this user's.
    """

    def __init__(self, root: bytes, prefix: bytes, owner: os.stat_result | None = None) -> None:
        self._root, self._prefix, self._owner = root, prefix, owner
        self._umask = umask()
        self._made = {b""}
        self._modes: list[tuple[bytes, int]] = []
        self._digests: dict[str, str] = {}

    def put(self, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a path of any type.

        ``pieces`` are a file's bytes as a bundle stores them. They are verified against the record's digest:
        raises IntegrityError when they differ from it.
        """
        if record.type == "file":
            self.write(record, verify_digest(pieces, record.path, record.sha256))
        else:
            self.add(record)

    def path_for(self, record: PathRecord) -> bytes:
        """Create the folder of a record's path, and return the path to write to."""
        name = os.fsencode(record.path)
        self._folder(name.rpartition(b"/")[0])
        return self._root + b"/" + name

    def add(self, record: PathRecord) -> None:
        """Create a symbolic link, a hard link (a copy where the filesystem has none) or a folder."""
        name = os.fsencode(record.path)
        if record.type == "directory":
            self._folder(name)
            self._modes.append((name, record.mode))
        elif record.type == "symlink":
            os.symlink(os.fsencode(record.target), self.path_for(record))
        else:
            link_or_copy(os.path.join(self._root, os.fsencode(record.target)), self.path_for(record))

    def write(self, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file, with the prefix put into its stored bytes ``pieces``, which are not verified."""

        def fill(fd: int) -> None:
            if self._owner is not None:
                keep_owner(fd, self._owner)
            deployed = deployed_bytes(pieces, record.relocation, record.size, self._prefix, record.path)
            if record.relocation is not None and has_digest(record.path):
                deployed = self._digested(record.path, deployed)
            write_pieces(fd, deployed)
            if record.size >= EARLY:
                begin_writing(fd)

        create_file(self.path_for(record), record.mode, record.mtime, fill)

    def take_digests(self) -> dict[str, str]:
        """Return, once, the SHA-256 of each file written since with the prefix in it, by its path."""
        taken, self._digests = self._digests, {}
        return taken

    def _digested(self, path: str, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        hashed = hashlib.sha256()
        yield from hash_pieces(pieces, hashed)
        self._digests[path] = hashed.hexdigest()

    def move(self, record: PathRecord, source: Path) -> None:
        """Rename ``source``, a file that already has its final bytes, into the tree, and set its mode and time.

        Raises FileExistsError when the path exists already.
        """
        path = self.path_for(record)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(source, path)
        os.chmod(path, record.mode & ~self._umask)
        os.utime(path, (record.mtime, record.mtime))

    def _folder(self, name: bytes) -> None:
        if name in self._made:
            return
        self._folder(name.rpartition(b"/")[0])
        with suppress(FileExistsError):  # another thread has created it
            os.mkdir(os.path.join(self._root, name), 0o755)
        self._made.add(name)

    def finish(self) -> None:
        """Set the modes of the folders: last, so that a folder without write permission can still be filled."""
        for name, mode in sorted(self._modes, reverse=True):  # children before their folder
            os.chmod(os.path.join(self._root, name), mode & ~self._umask)
