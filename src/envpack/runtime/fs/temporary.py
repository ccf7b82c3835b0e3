"""Temporary files and folders beside an output, in a folder where other users may write, too.

Every one has a random name, and is created anew: what another user has put there before is neither opened nor
followed nor removed. Only what this process created is removed, and it is recognised by its inode, not by its
name. A process that is killed leaves its temporary file or folder, which the next process on the same host that
writes the same output removes. Who is alive holds a lock on what it created; without locks nothing is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import CREATE, READ, READ_FOLDER, READ_UNTRUSTED, keep_owner, write_all
from envpack.runtime.fs.links import link_or_copy
from envpack.runtime.fs.paths import make_writable, sibling_path
from envpack.runtime.fs.sync import sync_folder

_ATTEMPTS = 20

_NAME = re.compile(r"\..*\.envpack-[0-9a-f]{16}", re.DOTALL)


def temporary_path(path: Path) -> Path:
    """Return a random path for something temporary, in the folder of ``path``.

    The first 4 digits stand for this host, the other 12 are random. Bundles can't contain such a name: see
    ``forbidden_reason`` in ``envpack.runtime.format.tree_rules``.
    """
    return sibling_path(path, f"envpack-{_host()}{os.urandom(6).hex()}")


def _host() -> str:
    """Return 4 hexadecimal digits for this host: file locks of BeeGFS and others hold only there by default."""
    return f"{zlib.crc32(os.uname().nodename.encode()) & 0xFFFF:04x}"


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that `temporary_path` returns."""
    return _NAME.fullmatch(name) is not None


class NewFile:
    """A temporary file that `new_file` created.

    Attributes:
        path: its path.
        fd: its descriptor, open for reading and writing.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd

    def put(self, path: Path) -> None:
        """Rename the file to ``path``, replacing a file or link there.

        Raises:
            OSError: it can't be renamed, or another process has put something else at its temporary path.
        """
        self._check()
        os.replace(self.path, path)

    def create(self, path: Path) -> None:
        """Give the file, as it is now, the name ``path`` too, which is new: whoever reads it sees all of it.

        Raises:
            FileExistsError: there is something at ``path``.
            OSError: as for `put`.
        """
        self._check()
        link_or_copy(os.fsencode(self.path), os.fsencode(path))

    def _check(self) -> None:
        if not _is_same(self.path, self.fd):
            raise OSError(errno.EBUSY, "another process replaced the temporary file", str(self.path))


@contextmanager
def new_file(beside: Path, mode: int = 0o666) -> Iterator[NewFile]:
    """Create a temporary file in the folder of ``beside``; remove it after the block, unless it was renamed.

    Args:
        beside: the path that the file is meant for.
        mode: its permission bits, subject to the umask.

    Raises:
        OSError: it can't be created.
    """
    _remove_leftovers(beside)

    def create(path: Path) -> int:
        with _undone_by_signal(lambda: os.unlink(path)):
            return os.open(path, CREATE & ~os.O_WRONLY | os.O_RDWR, mode)

    path, fd = _create_locked(lambda: temporary_path(beside), create, os.unlink)
    try:
        yield NewFile(path, fd)
    finally:
        with suppress(OSError):
            if _is_same(path, fd):
                os.unlink(path)
        os.close(fd)


def replace_file(
    path: Path, data: bytes, mode: int = 0o666, *, durable: bool = True, owner: os.stat_result | None = None
) -> None:
    """Replace the content of ``path`` atomically; several processes may do so at once, and the last one wins.

    Args:
        path: the file to create or replace; a link there is replaced, not followed.
        data: its new content.
        mode: its permission bits, subject to the umask.
        durable: sync the file and its folder, so that the content is all old or all new also after a power cut.
        owner: the status whose owner and group it gets, as far as allowed; None for this user's.

    Raises:
        OSError: the file can't be written or renamed, and then the old one is still there; or its folder can't
            be synced after the rename.
    """
    with new_file(path, mode) as new:
        if owner is not None:
            keep_owner(new.fd, owner)
        write_all(new.fd, data)
        if durable:
            os.fsync(new.fd)
        new.put(path)
    if durable:
        sync_folder(path.parent)


def unnamed_file(folder: Path) -> BinaryIO:
    """Create a file without a name in ``folder``, open for reading and writing, unbuffered.

    Raises:
        OSError: it can't be created.
    """
    import tempfile  # takes 10 ms, and each activation loads this module

    return tempfile.TemporaryFile(dir=str(folder), buffering=0)


@contextmanager
def new_folder(beside: Path, *, short: bool = False) -> Iterator[Path]:
    """Create a temporary folder that only this user can enter, in the folder of ``beside``.

    After the block it is removed with its content.

    Args:
        beside: the path that gives the folder its name.
        short: give it a name of 8 characters, for a folder in which long paths will lie. One that a killed process
            left is not removed later: nothing in such a name says whose it is.

    Raises:
        OSError: it can't be created or removed.
    """
    _remove_leftovers(beside)

    def create(path: Path) -> int:
        with _undone_by_signal(lambda: os.rmdir(path)):
            os.mkdir(path, 0o700)
            return os.open(path, READ_FOLDER)

    path, fd = _create_locked(
        lambda: beside.with_name(os.urandom(4).hex()) if short else temporary_path(beside), create, os.rmdir
    )
    try:
        status = os.fstat(fd)
        # not readable for others either, but where the file system sets all modes: vfat, SMB
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            if status.st_uid == os.geteuid() and _is_same(path, fd):
                os.rmdir(path)
            raise OSError(errno.EBUSY, "another user replaced the temporary folder, or can write to it", str(path))
        try:
            yield path
        finally:
            empty_folder(fd)
            if _is_same(path, fd):
                os.rmdir(path)
    finally:
        os.close(fd)


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """Create a temporary folder beside ``output`` for the block, as `new_folder` does.

    Raises:
        DestinationError: the folder can't be created, or the block raised OSError, taken as a failure to write to
            it.
    """
    try:
        with new_folder(output) as folder:
            yield folder
    except OSError as problem:
        raise DestinationError(
            f"can't write to {output.parent}: {problem.strerror}",
            hint="Choose a destination that you can write to, or ask for permission."
            if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            else "",
        ) from problem


def empty_folder(fd: int) -> None:
    """Remove everything in an open folder, wherever it lies by now; folders without write permission, too.

    Raises:
        OSError: a part of it can't be removed.
    """
    for _, folders, _, at in os.fwalk(".", dir_fd=fd):
        for name in folders:
            make_writable(name, at)
    for _, folders, files, at in os.fwalk(".", topdown=False, dir_fd=fd):
        for name in files:
            with suppress(FileNotFoundError):  # another process of this user may clean up, too
                os.unlink(name, dir_fd=at)
        for name in folders:
            with suppress(FileNotFoundError):
                try:
                    os.rmdir(name, dir_fd=at)
                except NotADirectoryError:  # a link to a folder
                    os.unlink(name, dir_fd=at)


def _is_same(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextmanager
def _undone_by_signal(remove: Callable[[], None]) -> Iterator[None]:
    """Call ``remove`` when a signal ends the block: between the creation of a file and the next statement, too."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        with suppress(OSError):
            remove()
        raise


def _create_locked(
    name: Callable[[], Path], create: Callable[[Path], int], remove: Callable[[Path], None]
) -> tuple[Path, int]:
    """Create a file or folder under a new name, and lock it.

    Until it is locked another process can take it for a leftover and remove it: then it is created again.

    Returns:
        Its path and its descriptor. It is not locked where there are no file locks.

    Raises:
        OSError: it can't be created.
    """
    for left in reversed(range(_ATTEMPTS)):
        path = name()
        try:
            fd = create(path)
        except FileNotFoundError:  # it was removed at once, or the folder is missing
            if not left:
                raise
            continue
        if _hold(path, fd) or not left:
            break
        with suppress(OSError):
            if _is_same(path, fd):
                remove(path)
        os.close(fd)
    return path, fd


def _hold(path: Path, fd: int) -> bool:
    """Lock what was created at ``path``; return false when another process had locked or removed it before."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # there are no file locks, so nobody removes it
    return _is_same(path, fd)


def _remove_leftovers(beside: Path) -> None:
    """Remove what killed processes of this user on this host left of `new_file` and `new_folder` for ``beside``.

    Folders only where no other user can write: one could rename a folder of this user to such a name, and have it
    emptied. The folder that was looked at is the one worked in: another user can put another in its place.
    """
    start = temporary_path(beside).name[:-12]
    try:
        parent = os.open(beside.parent, READ | os.O_DIRECTORY)
    except OSError:
        return
    try:
        status = os.fstat(parent)
        private = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
        for name in os.listdir(parent):
            if name.startswith(start) and is_temporary(name):
                with suppress(OSError):
                    _remove_leftover(name, parent, folders=private)
    except OSError:
        pass
    finally:
        os.close(parent)


def _remove_leftover(name: str, parent: int, *, folders: bool) -> None:
    """Remove a file of this user, or with ``folders`` a folder, unless it is locked.

    Raises:
        OSError: it can't be opened, locked or removed.
    """
    fd = os.open(name, READ_UNTRUSTED, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(status, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            return
        if folders and stat.S_ISDIR(status.st_mode):
            empty_folder(fd)
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode):
            os.unlink(name, dir_fd=parent)
    finally:
        os.close(fd)
