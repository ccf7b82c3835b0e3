"""Where things are made: beside their place, under a lock that dies with the process, and there by one rename.

A folder that a crash left is taken over and emptied by the next one to work there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.lock import locked

_LOCK = ".envpack-lock"
"""In a folder at work. No environment has a file of this name."""

NAME_MAX = 143
"""Bytes of the longest file name every filesystem takes: 255 on most (<linux/limits.h>), 143 on eCryptfs, which
encrypts names (<https://bugs.launchpad.net/ecryptfs/+bug/344878>)."""


def beside(path: Path, what: str) -> Path:
    """Where to make what is to become ``path``: ``.<name>.<what>`` in its folder, always the same for one path.

    Where that is longer than NAME_MAX bytes, the name is cut off, and a digest of the whole of it tells it apart.
    """
    return path.with_name(os.fsdecode(name_beside(os.fsencode(path.name), what)))


def name_beside(name: bytes, what: str) -> bytes:
    """The last part of it."""
    end = f".{what}".encode()
    if len(name) + len(end) + 1 > NAME_MAX:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        start = name[: NAME_MAX - len(end) - len(digest) - 2].decode("utf-8", "ignore").encode()
        name = start + b"-" + digest
    return b"." + name + end


def make_folders(folder: Path) -> list[Path]:
    """Makes ``folder`` with its parents; those that were missing, outermost first. Raises OSError, and then those
    it has made are gone again."""
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    try:
        for each in missing:
            each.mkdir(exist_ok=True)
    except BaseException:
        remove_empty(missing)
        raise
    return missing


@contextmanager
def folders_for(output: Path) -> Iterator[None]:
    """Makes the folders that ``output`` is to lie in; gone again when the block fails, where they were missing.

    Raises DestinationError when they can't be made.
    """
    try:
        made = make_folders(output.parent)
    except OSError as problem:
        raise DestinationError(f"can't make {problem.filename}: {problem.strerror}") from None
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Removes those of ``folders``, outermost first, that nobody has put anything into."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """``folder`` made, locked and empty; gone afterwards, with all that is in it, unless it was renamed.

    Raises DestinationError when it can't be made, another process works in it, or the block can't write to it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise DestinationError(
            f"can't write to {folder.parent}: {problem.strerror}",
            hint="Choose a destination you may write to, or ask for permission.",
        ) from None
    with locked(folder / _LOCK, wait=False):
        try:
            _empty(folder)
            yield folder
        except OSError as problem:
            raise DestinationError(f"can't write to {folder.parent}: {problem.strerror}") from problem
        finally:
            if folder.exists():
                remove_tree(folder)


def umask() -> int:
    """The process's mask for the modes of new files; asked for by setting it, so from one thread only."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.name == _LOCK:
            continue
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            os.unlink(entry.path)


def remove_tree(folder: Path) -> None:
    """Removes a tree, folders without write permission too. Raises OSError."""
    _open_up(folder)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            _open_up(Path(parent, name))
    shutil.rmtree(folder)


def _open_up(folder: Path) -> None:
    """Lets a folder be emptied; never what a link leads to, also when it becomes one just now."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:  # not root, whom nobody could trick into anything here
        os.chmod(folder, 0o700)
        return
    try:
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def is_there(path: Path) -> bool:
    """Whether anything has that name, a link that leads nowhere too. Raises OSError where that can't be told."""
    return _status(path) is not None


def is_folder(path: Path) -> bool:
    """Whether it is a folder itself, not a link to one. Raises OSError where that can't be told."""
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    # not Path.exists() and its like: they answer "no" to some errors, and what isn't there is removed or replaced
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
