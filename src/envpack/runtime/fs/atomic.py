"""Replace files so that others see all of the old or all of the new: one, or several together."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Callable, TypeVar

from envpack.runtime.fs.paths import name_beside
from envpack.runtime.fs.sync import sync_folder

T = TypeVar("T")

_WHAT = "envpack-new"


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Together:
    """New files and links on their way. To be `put`, or else `drop`ped.

    Whatever stands where one is made, such as a link that a hostile archive left, is removed, never written
    through.
    """

    def __init__(self) -> None:
        self._new: list[tuple[bytes, bytes]] = []

    def file(self, path: bytes, data: bytes, mode: int, mtime: int | None = None) -> bytes:
        """Where the new ``path`` is, until it is put there. Raises OSError."""
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
        """Another name of ``source``. Raises OSError."""
        temporary = self._beside(path)
        _anew(temporary, lambda: os.link(source, temporary))

    def _beside(self, path: bytes) -> bytes:
        temporary = _way_to(path)
        self._new.append((temporary, path))
        return temporary

    def put(self) -> None:
        """Each takes its place, in the order they were made. Raises OSError."""
        for temporary, path in self._new:
            os.replace(temporary, path)
        self._new = []

    def drop(self) -> bool:
        """Takes away what has no place yet; whether nothing of it is left."""
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
    return folder + b"/" + name_beside(name, _WHAT)


def clear(path: bytes) -> None:
    """Removes what was on its way to ``path`` when a program was stopped. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(_way_to(path))


def is_on_its_way(name: str) -> bool:
    """Whether a file of this name is one that was to replace another when a program was stopped."""
    return name.startswith(".") and name.endswith(f".{_WHAT}")


def temporary_of(path: Path) -> Path:
    """Where `replace_file` writes first, and what it leaves when the process is killed meanwhile."""
    return path.with_name(f".{path.name}.new")


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Makes ``data`` what stands in ``path``: before and after a power cut, all of the old or all of the new.

    Raises OSError; then the old is still there. ``mode`` is subject to the umask. For one process at a time.
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
