"""Files that are replaced together: every new one is written beside the old one, and only then do they take their
places, so that a disk that is full, or a program that is stopped meanwhile, has changed nothing."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Callable, TypeVar

from envpack.runtime.place import name_beside

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
