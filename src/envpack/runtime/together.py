"""Files that are replaced together: every new one is written beside the old one, and only then do they take their
places, so that a disk that is full, or a program that is stopped meanwhile, has changed nothing."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from envpack.runtime.place import beside

_WHAT = "envpack-new"


class Together:
    """New files and links on their way. To be `put`, or else `drop`ped."""

    def __init__(self) -> None:
        self._new: list[tuple[Path, Path]] = []

    def file(self, path: Path, data: bytes, mode: int, mtime: int | None = None) -> Path:
        """Where the new ``path`` is, until it is put there. Raises OSError."""
        temporary = self._fresh(path)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        if mtime is not None:
            os.utime(temporary, (mtime, mtime))
        return temporary

    def link(self, source: Path, path: Path) -> None:
        """Another name of ``source``. Raises OSError."""
        os.link(source, self._fresh(path))

    def _fresh(self, path: Path) -> Path:
        clear(path)
        self._new.append((beside(path, _WHAT), path))
        return self._new[-1][0]

    def put(self) -> None:
        """Each takes its place, in the order they were made. Raises OSError."""
        for temporary, path in self._new:
            os.replace(temporary, path)
        self._new = []

    def drop(self) -> None:
        """Takes away what has no place yet."""
        for temporary, _ in self._new:
            with suppress(OSError):
                os.unlink(temporary)


def clear(path: Path) -> None:
    """Removes what was on its way to ``path`` when a program was stopped. Whatever stands there, such as a link
    that a hostile archive left, is removed, never written through. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(beside(path, _WHAT))


def is_on_its_way(name: str) -> bool:
    """Whether a file of this name is one that was to replace another when a program was stopped."""
    return name.startswith(".") and name.endswith(f".{_WHAT}")
