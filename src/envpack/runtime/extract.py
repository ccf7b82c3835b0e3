"""Writing a bundle's tree into a folder, the destination's prefix going in while the bytes pass.

Memory stays at a few frames however large the bundle is.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterable, Protocol

from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import Manifest, PathRecord, PathsTable
from envpack.runtime.format.manifest_json import digest_line
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.fs.io import write_all
from envpack.runtime.fs.paths import umask
from envpack.runtime.fs.sync import EARLY, begin_writing
from envpack.runtime.parallel.processes import Crew, can_fork
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import Frames
from envpack.runtime.reader.partition import Part, parts_of
from envpack.runtime.relocation.files import proved, with_prefix
from envpack.runtime.report import Step

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


class SegmentSupplier(Protocol):
    """Gives segments that need not be read from the bundle."""

    def give(self, manifest: Manifest, table: PathsTable, tree: Tree, step: Step, jobs: int) -> frozenset[str]:
        """Puts whole segments of ``table`` into ``tree``, on ``jobs`` threads; their ids."""


class Extraction:
    """A bundle being written below ``root``, an empty folder, as it is to be at ``prefix``: by processes that each
    take a part of it, where it is a file and worth that, else as it comes. Segments that ``former`` has come from
    there, and are not read.

    A context manager. Raises IntegrityError when the bundle is damaged or unsafe; what was written until then is
    the caller's to remove.
    """

    def __init__(
        self, bundle: Bundle, root: Path, prefix: bytes, jobs: int, former: SegmentSupplier | None = None
    ) -> None:
        table_bytes = bundle.table_bytes()
        self.table = table_from_json(table_bytes)
        check_bundle_tree(bundle.manifest, self.table)
        self._bundle, self._jobs, self._former = bundle, jobs, former
        self._tree = Tree(os.fsencode(root), prefix)
        write_head(self._tree, bundle, table_bytes)
        self._crew: Crew[None] | None = None

    def __enter__(self) -> Extraction:
        alone = self._jobs == 1 or not self._bundle.is_file or self._former is not None
        parts = [] if alone else parts_of(self._bundle, self.table)
        if len(parts) > 1 and can_fork():
            crew = Crew(self._jobs, len(parts), lambda _, part, advance: self._write(parts[part], advance))
            with suppress(OSError):
                self._crew = crew.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._crew is not None:
            self._crew.__exit__(*error)

    def finish(self, step: Step) -> frozenset[str]:
        """Writes it; the ids of the segments that are of ``former``. ``step`` advances by uncompressed bytes."""
        given: frozenset[str] = frozenset()
        if self._crew is not None:
            links = [record for record in self.table if record.type != "file"]
            for record in links:
                if record.type != "hardlink":
                    self._tree.add(record)
            for _ in self._crew.results(step.advance):
                pass
            for record in links:
                if record.type == "hardlink":
                    self._tree.add(record)
        else:
            given = self._stream(step)
        self._tree.finish()
        return given

    def _stream(self, step: Step) -> frozenset[str]:
        bundle, table, tree = self._bundle, self.table, self._tree
        segments = bundle.manifest.segments
        given: frozenset[str] = frozenset()
        if self._former is not None:
            given = self._former.give(bundle.manifest, table, tree, step, self._jobs)
        wanted = [segment.id for segment in segments if segment.id not in given]
        with Frames(bundle, wanted, self._jobs) as frames:
            for id in wanted:
                for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step.advance):
                    tree.put(record, pieces)
        return given

    def _write(self, part: Part, advance: Callable[[int], None]) -> None:
        """The files of a part; links are made when all files are there."""
        for record, pieces in part.entries(self._bundle, advance):
            if record.type == "file":
                self._tree.put(record, pieces)


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
