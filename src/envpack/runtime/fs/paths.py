"""Staging folders and sibling paths: new content is made beside its final path, under a lock that ends with the
process, and gets there by one rename.

A staging folder that a crash left is taken over and emptied by the next process that uses the same path.
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
from envpack.runtime.fs.io import READ_FOLDER
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.mounts import refuse_mounts

_LOCK = ".envpack-lock"
"""Name of the lock file in a staging folder. No environment has a file of this name."""

NAME_MAX = 143
"""Bytes of the longest file name that every filesystem accepts: 255 on most (<linux/limits.h>), 143 on eCryptfs,
which encrypts names (<https://bugs.launchpad.net/ecryptfs/+bug/344878>)."""


def sibling_path(path: Path, what: str) -> Path:
    """Return the sibling ``.<name>.<what>`` of ``path``, always the same one for one path.

    A name longer than NAME_MAX bytes is cut off and gets a digest of the full name, which keeps it unique.
    """
    return path.with_name(os.fsdecode(sibling_name(os.fsencode(path.name), what)))


def sibling_name(name: bytes, what: str) -> bytes:
    """Return the file name of the sibling that `sibling_path` describes, for the file name ``name``."""
    end = f".{what}".encode()
    if len(name) + len(end) + 1 > NAME_MAX:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        start = name[: NAME_MAX - len(end) - len(digest) - 2].decode("utf-8", "ignore").encode()
        name = start + b"-" + digest
    return b"." + name + end


def make_folders(folder: Path, mode: int = 0o777) -> list[Path]:
    """Create ``folder`` and its missing parents, with the permission bits ``mode`` less the umask.

    Returns:
        The folders that were missing, outermost first.

    Raises:
        OSError: one of them can't be created; those created before it are removed again.
    """
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    try:
        for each in missing:
            each.mkdir(mode, exist_ok=True)
    except BaseException:
        remove_empty(missing)
        raise
    return missing


@contextmanager
def folders_for(output: Path) -> Iterator[None]:
    """Create the parent folders of ``output`` for the block; remove those that were missing when the block fails.

    A folder that is not empty by then is not removed.

    Raises:
        DestinationError: a folder can't be created.
    """
    try:
        made = make_folders(output.parent)
    except OSError as problem:
        raise DestinationError(f"can't create {problem.filename}: {problem.strerror}") from None
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove those of ``folders``, given outermost first, that are empty; ignore errors."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Create, lock and empty the staging folder ``folder`` for the block.

    Afterwards the folder is removed with its content, unless the block renamed it.

    Raises:
        DestinationError: the folder can't be created, another process uses it, or the block raised OSError, taken
            as a failure to write to it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise DestinationError(
            f"can't write to {folder.parent}: {problem.strerror}",
            hint="Choose a destination that you can write to, or ask for permission.",
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
    """Return the process's umask.

    It can only be read by setting it, so no other thread may create files meanwhile.
    """
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
    """Remove a tree, including folders without write permission.

    Raises:
        OSError: a part of it can't be removed, or a filesystem is mounted inside: nothing is removed then.
    """
    refuse_mounts(folder)
    _make_writable(folder)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            _make_writable(Path(parent, name))
    shutil.rmtree(folder)


def _make_writable(folder: Path) -> None:
    """Give the owner all permissions on a folder; never on a link's target, also if it becomes a link just now."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    try:
        fd = os.open(folder, READ_FOLDER)
    except PermissionError:  # the caller is not root, so a link swapped in gains nothing
        os.chmod(folder, 0o700)
        return
    try:
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def exists(path: Path) -> bool:
    """Return whether anything has that name, a dangling link included; never follow a link.

    Raises:
        OSError: the name can't be looked up.
    """
    return _status(path) is not None


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder itself, not a link to one.

    Raises:
        OSError: the name can't be looked up.
    """
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    # not Path.exists() and its like: they return False for some errors, and callers replace what does not exist
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
