"""Atomic replacement of files, one or a batch: a reader sees the complete old or the complete new content.

This is for files in deployed trees and state directories, where no other user may write. The new content is
written to a temporary sibling, which one rename puts at the final path. Its name is always the same, so that the
next command removes what a killed one has left. Anything that exists there before, such as a link that a hostile
archive left, is removed, never written through. For all other folders, `envpack.runtime.fs.temporary` has files
with random names.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator, TypeVar

from envpack.runtime.fs.io import CREATE, access_list, create_file, keep_mode, keep_owner, other_owner, write_all
from envpack.runtime.fs.links import link_or_copy
from envpack.runtime.fs.paths import sibling_name, sibling_path, umask
from envpack.runtime.fs.sync import sync_folder

T = TypeVar("T")

_MARKER = "envpack-new"
"""End of the names of temporary siblings in a deployed tree."""


def replace_own_file(path: Path, data: bytes, mode: int = 0o664) -> None:
    """Replace the content of ``path`` atomically, and sync it and its folder.

    Args:
        path: the file to create or replace; only one process at a time may do so.
        data: its new content.
        mode: its permission bits, subject to the umask and to the folder's default access control list; by default
            not writable by all users under any umask. A file that is replaced keeps those of its bits, its access
            control list, and its owner where this user may set it; a new one of root's gets that of its folder.

    Raises:
        OSError: the file can't be written or renamed, and then the old one is still there; or its folder can't
            be synced after the rename.
    """
    with replacement(path, temporary_of(path)) as new:
        fd = os.open(new, CREATE, mode)
        try:
            # a default access control list takes the place of the umask: umask(2)
            before = status_of_file(path)
            owner = before or other_owner(path.parent)
            if owner is not None:
                keep_owner(fd, owner)
            if before is not None:
                keep_mode(fd, before, access_list(path), mode)
            else:
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~umask())
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(path.parent)


def status_of_file(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None where there is none."""
    with suppress(OSError):
        status = os.lstat(path)
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def temporary_of(path: Path) -> Path:
    """Return the path that `replace_own_file` writes first; the file stays if the process is killed meanwhile."""
    return path.with_name(f".{path.name}.new")


@contextmanager
def replacement(path: Path, temporary: Path | None = None, *, over_folder: bool = False) -> Iterator[Path]:
    """Yield the temporary path at which the block creates a file or link; rename it over ``path`` afterwards.

    Nothing is left at the temporary path when the block fails, and nothing is synced.

    Args:
        path: the file to create or replace.
        temporary: a path in the same folder; None for the sibling that `is_temporary_name` knows.
        over_folder: replace an empty folder, too.

    Raises:
        OSError: the temporary file can't be renamed; with ENOTEMPTY, ``path`` is a folder with files in it.
    """
    temporary = temporary or sibling_path(path, _MARKER)
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as problem:
            if not over_folder or problem.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                raise
            os.rmdir(path)
            os.replace(temporary, path)
    finally:  # rename(2) leaves the temporary path where both are the same file
        with suppress(OSError):
            os.unlink(temporary)


class ReplaceBatch:
    """A batch of new files and links: written to temporary siblings, which `put` renames and `drop` removes."""

    def __init__(self) -> None:
        self._new: list[tuple[bytes, bytes]] = []

    def file(
        self,
        path: bytes,
        data: bytes,
        mode: int,
        mtime: int | None = None,
        owner: os.stat_result | None = None,
    ) -> bytes:
        """Write a new version of ``path`` to its temporary sibling and return the path of that sibling.

        Args:
            path: the file to replace when `put` is called.
            data: its new content.
            mode: its permission bits, independent of the umask.
            mtime: its access and modification time, in seconds since the epoch; None: the current time.
            owner: the status whose owner and group it gets, where this user may set them; see `keep_mode`.

        Raises:
            OSError: the sibling can't be created or written.
        """

        def fill(fd: int) -> None:
            write_all(fd, data)
            if owner is None:
                os.fchmod(fd, mode)
            else:
                keep_owner(fd, owner)
                keep_mode(fd, owner, access_list(path), mode)

        temporary = self._add(path)
        _anew(temporary, lambda: create_file(temporary, 0o600, mtime, fill))
        return temporary

    def link(self, source: bytes, path: bytes) -> None:
        """Create a hard link to ``source``, or else a copy of it, as the temporary sibling of ``path``.

        Raises:
            OSError: the link can't be created.
        """
        temporary = self._add(path)
        _anew(temporary, lambda: link_or_copy(source, temporary))

    def _add(self, path: bytes) -> bytes:
        temporary = _temporary_sibling(path)
        self._new.append((temporary, path))
        return temporary

    def put(self) -> None:
        """Rename each temporary sibling to its final path, in the order of creation.

        Raises:
            OSError: a rename failed; the earlier ones are done.
        """
        for temporary, path in self._new:
            os.replace(temporary, path)
        self._new = []

    def drop(self) -> bool:
        """Remove the temporary siblings not renamed yet; return whether none of them is left."""
        for temporary, _ in self._new:
            with suppress(OSError):
                os.unlink(temporary)
        return not any(os.path.lexists(temporary) for temporary, _ in self._new)


def _anew(path: bytes, make: Callable[[], T]) -> T:
    try:
        return make()
    except FileExistsError:
        os.unlink(path)
        return make()


def _temporary_sibling(path: bytes) -> bytes:
    folder, _, name = path.rpartition(b"/")
    return folder + b"/" + sibling_name(name, _MARKER)


def remove_temporary(path: bytes) -> None:
    """Remove the temporary sibling of ``path`` that an interrupted `ReplaceBatch` left, if there is one.

    Raises:
        OSError: it exists and can't be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(_temporary_sibling(path))


def is_temporary_name(name: str) -> bool:
    """Return whether a file name is that of a temporary sibling in a deployed tree, left by an interruption."""
    return name.startswith(".") and name.endswith(f".{_MARKER}")
