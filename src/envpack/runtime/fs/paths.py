"""Sibling paths, parent folders of outputs, removal of trees, and what a path is."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, NamedTuple

from envpack.runtime.errors import DestinationError, failed_path
from envpack.runtime.fs.io import READ_FOLDER, access_list, keep_mode, keep_owner, read_file
from envpack.runtime.fs.mounts import refuse_mounts

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
        DestinationError: see `check_links`.
        OSError: one of them can't be created; those created before it are removed again.
    """
    check_links(folder)
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


def give_folder(path: Path, owner: os.stat_result) -> None:
    """Give a folder that this process has just made to an owner and a group, as far as allowed; follow no link.

    Raises:
        OSError: it can't be opened.
    """
    fd = os.open(path, READ_FOLDER)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            keep_owner(fd, owner)
    finally:
        os.close(fd)


def check_links(path: Path) -> None:
    """Raise DestinationError when ``path``, or a folder on the way to it, is a link that another user planted.

    A link is trusted when it belongs to this user, to root, or to the owner of the folder that it is in, if no
    other user could make that folder. The kernel has this rule in folders with the sticky bit:
    fs.protected_symlinks, <https://docs.kernel.org/admin-guide/sysctl/fs.html>.
    """
    path = Path(os.path.abspath(path))
    for each in (path, *path.parents):
        try:
            status = os.lstat(each)
            if not stat.S_ISLNK(status.st_mode):
                continue
            trusted = status.st_uid in (0, os.geteuid()) or (
                status.st_uid == os.stat(each.parent).st_uid
                and not any(os.stat(folder).st_mode & 0o022 for folder in each.parent.parents)
            )
        except OSError:
            continue
        if not trusted:
            raise DestinationError(
                f"{each} is a link of another user, and was not followed",
                hint="Remove it, or give the path that it leads to.",
            )


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
        raise DestinationError(f"can't create {failed_path(problem)}: {problem.strerror}") from None
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


def umask() -> int:
    """Return the process's umask.

    Where the kernel does not tell it (proc(5), since Linux 4.7), it can only be read by setting it, and no other
    thread may create files meanwhile.
    """
    with suppress(OSError, ValueError, IndexError):
        return int(read_file("/proc/self/status").partition(b"\nUmask:")[2].split()[0], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def umask_of(folder: Path) -> Iterator[None]:
    """Set the umask for the block: who can read ``folder`` can read what is created, whatever the umask was.

    What it withheld from others to write, it still does. No other thread may create files meanwhile.

    Args:
        folder: a folder that was created with the mode 0755, less the umask of that time.

    Raises:
        OSError: there is no such folder.
    """
    before = umask()
    os.umask(before & 0o022 | ~os.stat(folder).st_mode & 0o077)
    try:
        yield
    finally:
        os.umask(before)


def remove_tree(folder: Path) -> None:
    """Remove a tree, including folders without write permission; a pipe, a link or a file is unlinked.

    Raises:
        OSError: a part of it can't be removed, or a filesystem is mounted inside: nothing is removed then.
    """
    if not stat.S_ISDIR(os.lstat(folder).st_mode):  # os.fwalk would wait for the writer of a pipe
        os.unlink(folder)
        return
    refuse_mounts(folder)
    make_writable(str(folder))
    for _, folders, _, at in os.fwalk(folder):
        for name in folders:
            make_writable(name, at)
    shutil.rmtree(folder)


def make_writable(name: str, at: int | None = None) -> None:
    """Give the owner all permissions on a folder; never on a link's target, also if it becomes a link just now.

    Args:
        name: its path, relative to ``at``.
        at: the descriptor of a folder; None for the current one.

    Raises:
        OSError: it can't be done.
    """
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return
    try:
        fd = os.open(name, READ_FOLDER, dir_fd=at)
    except PermissionError:  # the caller is not root, so a link swapped in gains nothing
        os.chmod(name, 0o700, dir_fd=at)
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


def is_folder(path: Path, *, follow: bool = False) -> bool:
    """Return whether ``path`` is a folder itself, or with ``follow`` a link to one.

    Raises:
        OSError: the name can't be looked up, as in a folder that this user may not search.
    """
    status = _status(path, follow=follow)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(path: Path, *, follow: bool = False) -> os.stat_result | None:
    # not Path.exists() and its like: they return False for some errors, and from Python 3.14 on for all; callers
    # replace what does not exist
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: it contains a NUL
        return None
    except OSError as problem:
        if follow and problem.errno == errno.ELOOP:
            return None
        raise


_NOT_KEPT = 0o002
"""All users may write to some folders, but not to a tree that programs are run from."""


class ReplacedFolder(NamedTuple):
    """What a folder was like that a tree replaces: the tree gets its mode, access control list and group."""

    status: os.stat_result
    acl: bytes

    @classmethod
    def at(cls, path: Path) -> ReplacedFolder | None:
        """Return what the folder at a path is like; None where there is none."""
        return cls(os.stat(path), access_list(path)) if is_folder(path) else None

    def give(self, path: Path) -> None:
        """Give a folder the group, if this user may, and the rest, without the right of others to write."""
        if os.stat(path).st_gid != self.status.st_gid:
            with suppress(OSError):
                os.chown(path, -1, self.status.st_gid)
        keep_mode(path, self.status, self.acl, ~_NOT_KEPT)

    def make(self, path: Path) -> None:
        """Make the folder again."""
        os.mkdir(path, 0o700)
        self.give(path)
