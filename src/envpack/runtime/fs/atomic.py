"""Atomic replacement of files, one or a batch: a reader sees the complete old or the complete new content."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, TypeVar

from envpack.runtime.fs.paths import sibling_name
from envpack.runtime.fs.sync import sync_folder

T = TypeVar("T")

_WHAT = "envpack-new"


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ReplaceBatch:
    """A batch of new files and links, written to temporary siblings first; `put` renames all, `drop` removes them.

    Anything that exists under a temporary name, such as a link that a hostile archive left, is removed, never
    written through.
    """

    def __init__(self) -> None:
        self._new: list[tuple[bytes, bytes]] = []

    def file(self, path: bytes, data: bytes, mode: int, mtime: int | None = None) -> bytes:
        """Write a new version of ``path`` to its temporary sibling and return the path of that sibling.

        Args:
            path: the file to replace when `put` is called.
            data: its new content.
            mode: its permission bits, independent of the umask.
            mtime: its access and modification time, in seconds since the epoch; None: the current time.

        Raises:
            OSError: the sibling can't be created or written.
        """
        temporary = self._beside(path)
        fd = _anew(temporary, lambda: os.open(temporary, _NEW, 0o600))
        try:
            while data:
                data = data[os.write(fd, data) :]
            os.fchmod(fd, mode)
            if mtime is not None:
                os.utime(fd, (mtime, mtime))
        finally:
            os.close(fd)
        return temporary

    def link(self, source: bytes, path: bytes) -> None:
        """Create a hard link to ``source`` as the temporary sibling of ``path``.

        Raises:
            OSError: the link can't be created.
        """
        temporary = self._beside(path)
        _anew(temporary, lambda: os.link(source, temporary))

    def _beside(self, path: bytes) -> bytes:
        temporary = _way_to(path)
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


def _way_to(path: bytes) -> bytes:
    folder, _, name = path.rpartition(b"/")
    return folder + b"/" + sibling_name(name, _WHAT)


def clear(path: bytes) -> None:
    """Remove the temporary sibling of ``path`` that an interrupted `ReplaceBatch` left, if there is one.

    Raises:
        OSError: it exists and can't be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(_way_to(path))


def is_on_its_way(name: str) -> bool:
    """Return whether a file name is that of a temporary sibling that an interrupted `ReplaceBatch` left."""
    return name.startswith(".") and name.endswith(f".{_WHAT}")


def temporary_of(path: Path) -> Path:
    """Return the path that `replace_file` writes first; the file stays if the process is killed meanwhile."""
    return path.with_name(f".{path.name}.new")


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace the content of ``path`` atomically and durably: after a power cut it is all old or all new.

    Only one process at a time may call this for one path.

    Args:
        path: the file to create or replace.
        data: its new content.
        mode: its permission bits, subject to the umask.

    Raises:
        OSError: the file can't be written or renamed, and then the old one is still there; or its folder can't
            be synced after the rename.
    """
    temporary = temporary_of(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)
