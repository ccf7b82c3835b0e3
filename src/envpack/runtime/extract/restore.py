"""Restoration of single paths of a tree from its bundle: each is replaced by one rename.

Only the frames that hold these files are read. After an interruption every path is as before, or restored.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import AbstractSet, Iterable, Iterator

from envpack.runtime.errors import DestinationError
from envpack.runtime.extract.tree_writer import Tree, head_files
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.fs.atomic import replacement
from envpack.runtime.fs.io import other_owner, read_file
from envpack.runtime.fs.paths import give_folder, is_folder, umask
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.reader.frames import FramePrefetcher, frames_of
from envpack.runtime.reader.selected_files import FrameContents, frames_holding
from envpack.runtime.relocation.files import verify_digest
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.tree.compare import folders_of


class TreeRestorer:
    """A writer of single paths of an existing tree.

    Methods raise OSError when the tree can't be written to, and DestinationError when a folder with files in it is
    where a file belongs.

    Args:
        root: The folder of the tree; its path is the prefix that is written into the files.
        bundle: The bundle of the tree.
        table: The paths table of the bundle.
        table_bytes: The same, as it is in the bundle.

    Attributes:
        owner: The status of the tree's folder where it is another user's, to whom belongs what root writes.
    """

    def __init__(self, root: Path, bundle: Bundle, table: PathsTable, table_bytes: bytes) -> None:
        self._root, self._bundle, self._table, self._table_bytes = root, bundle, table, table_bytes
        self.owner = other_owner(root)
        self._tree = Tree(os.fsencode(root), os.fsencode(root), self.owner)
        self._unlocked: dict[Path, int] = {}

    def restore_head(self) -> list[str]:
        """Restore manifest, digest and paths table where they differ from the bundle's; return their paths."""
        self._make_folder(self._root / OWN_FOLDER)
        restored = []
        for path, data in head_files(self._bundle.manifest_bytes, self._table_bytes):
            if not _has(self._root / path, data):
                self._replace(_record_of(path, data), [data])
                restored.append(path)
        return restored

    def restore(self, broken: AbstractSet[str], reporter: Reporter, jobs: int) -> tuple[list[str], int]:
        """Restore paths of any type.

        Args:
            broken: The paths to restore.
            reporter: Receives progress.
            jobs: The number of threads that decompress.

        Returns:
            The paths, folders first, and the bytes that were read of the bundle's segments, as stored.

        Raises:
            IntegrityError: The bundle is damaged.
        """
        if not broken:
            return [], 0
        restored = self._restore_folders(broken)
        segments = self._table.segments
        located = frames_of(self._bundle, segments)
        needed = {id: frames_holding(located[id], records, broken) for id, records in segments.items()}
        frames = {id: [frame for _, frame in each] for id, each in needed.items()}
        with reporter.step("Restoring changed and missing files", len(broken), "paths") as step:
            with FramePrefetcher(self._bundle, frames, jobs) as prefetcher:
                for id, records in segments.items():
                    contents = FrameContents(needed[id], prefetcher.take(id))
                    for record in _with_links(records, broken):
                        self._replace(record, contents.take(record))
                        if record.path in broken:
                            restored.append(record.path)
                            step.advance()
            read = sum(frame.frame.stored for each in frames.values() for frame in each)
            step.detail = f"{human_size(read)} read from the bundle"
        return restored, read

    @contextmanager
    def writable_folders(self) -> Iterator[None]:
        """Let our own read-only folders be written to within the block, and restore their modes afterwards."""
        try:
            yield
        finally:
            for folder, mode in self._unlocked.items():
                with suppress(OSError):
                    os.chmod(folder, mode)

    def _restore_folders(self, broken: AbstractSet[str]) -> list[str]:
        modes = {record.path: record.mode for record in self._table if record.type == "directory"}
        restored = []
        for path in sorted(folders_of(self._table) & broken):
            if self._make_folder(self._root / path):
                restored.append(path)
                if path in modes:
                    os.chmod(self._root / path, modes[path] & ~umask())
        return restored

    def _make_folder(self, path: Path) -> bool:
        """Make a folder, and those it is in, in place of any file or link; return whether it was not there."""
        if is_folder(path):
            return False
        if path.parent != self._root:
            self._make_folder(path.parent)
        self._unlock(path.parent)
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.mkdir(path, 0o755)
        if self.owner is not None:
            give_folder(path, self.owner)
        return True

    def _replace(self, record: PathRecord, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file, verified, or a link to a temporary sibling, and rename it over what is there."""
        path = self._root / record.path
        self._make_folder(path.parent)
        self._unlock(path.parent)
        try:
            with replacement(path, over_folder=True) as temporary:
                sibling = record._replace(path=str(temporary.relative_to(self._root)))
                if record.type == "file":
                    self._tree.write(sibling, verify_digest(pieces, record.path, record.sha256))
                    sync_folder(temporary)
                else:
                    self._tree.add(sibling)
        except OSError as problem:
            if problem.errno != errno.ENOTEMPTY:
                raise
            raise DestinationError(
                f"{path} must be a file, but is a directory that contains files",
                hint="Move the directory to another path, then repair again.",
            ) from None

    def _unlock(self, folder: Path) -> None:
        facts = os.stat(folder)
        mode = facts.st_mode & 0o7777
        if mode & 0o300 != 0o300 and folder not in self._unlocked and facts.st_uid == os.geteuid():
            os.chmod(folder, mode | 0o300)
            self._unlocked[folder] = mode


def _has(path: Path, data: bytes) -> bool:
    return not path.is_symlink() and path.is_file() and read_file(path) == data


def _record_of(path: str, data: bytes) -> PathRecord:
    return PathRecord(path, "file", size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _with_links(records: Iterable[PathRecord], broken: AbstractSet[str]) -> Iterator[PathRecord]:
    """Yield the broken files and links, and every hard link to them: they have to be one file again."""
    for record in records:
        if record.type != "directory" and (
            record.path in broken or (record.type == "hardlink" and record.target in broken)
        ):
            yield record
