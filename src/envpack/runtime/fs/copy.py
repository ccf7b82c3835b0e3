"""Copies of whole trees to another filesystem, and changes of their owner."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from contextlib import suppress
from pathlib import Path

from envpack.runtime.fs.io import CREATE, READ_FOLDER, READ_UNTRUSTED, keep_owner, open_regular, write_all
from envpack.runtime.fs.links import CANT_LINK
from envpack.runtime.fs.mounts import refuse_mounts

_SPECIAL = stat.S_ISUID | stat.S_ISGID
CAPABILITIES = "security.capability"
"""The extended attribute of capabilities(7): privileges of a file, as setuid."""

_PIECE = 8 << 20


def give_tree(tree: int, owner: os.stat_result) -> None:
    """Give a tree to another owner, as far as allowed, with its own folder last.

    A file with further names outside the tree, as one that a store shares, stays as it is.

    Args:
        tree: The descriptor of a folder that only this user could enter since it was made.
        owner: The status with the owner and the group.
    """
    names: Counter[int] = Counter()
    for _, folders, files, folder in os.fwalk(".", topdown=False, dir_fd=tree):
        for name in (*folders, *files):
            status = os.lstat(name, dir_fd=folder)
            names[status.st_ino] += 1
            if stat.S_ISDIR(status.st_mode) or names[status.st_ino] == status.st_nlink:
                with suppress(OSError):
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)
    keep_owner(tree, owner)


def copy_tree(source: Path, target: Path) -> list[str]:
    """Copy a whole tree: links as links, hard links among its files as hard links, with owners, modes and times.

    No link is followed, also if one is put into the tree meanwhile. An owner is kept where this user may set it.
    Where not, the file has no setuid, no setgid and no capabilities, as with cp -p (POSIX, cp, "-p"): they would
    give the rights of another user than before.

    Args:
        source: The tree.
        target: A folder that is empty or does not exist.

    Returns:
        The paths, relative to the tree, that lost one of these.

    Raises:
        OSError: A file can't be read or written, or something is mounted inside the tree.
    """
    refuse_mounts(source)
    with suppress(FileExistsError):
        os.mkdir(target, 0o700)
    copy = _Copy(os.open(target, READ_FOLDER))
    try:
        source_fd = os.open(source, READ_FOLDER)
        try:
            copy.folder(source_fd, copy.root, "")
        finally:
            os.close(source_fd)
    finally:
        os.close(copy.root)
    return copy.lost


class _Copy:
    """One copy; ``root``: the descriptor of its target; ``lost``: what `copy_tree` returns."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.lost: list[str] = []
        self._seen: dict[tuple[int, int], str] = {}

    def folder(self, source: int, target: int, path: str) -> None:
        """Copy what is in the open folder ``source`` into ``target``, and then its own owner, mode and times."""
        with os.scandir(source) as entries:
            for entry in entries:
                inside = f"{path}/{entry.name}" if path else entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    self._subfolder(entry.name, source, target, inside)
                elif not self._linked(entry.name, status, target):
                    self._file(entry.name, status, source, target, inside)
                    if status.st_nlink > 1:
                        self._seen[status.st_dev, status.st_ino] = inside
        self._attributes(source, target, path)

    def _subfolder(self, name: str, source: int, target: int, path: str) -> None:
        from_fd = os.open(name, READ_FOLDER, dir_fd=source)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            to_fd = os.open(name, READ_FOLDER, dir_fd=target)
            try:
                self.folder(from_fd, to_fd, path)
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)

    def _linked(self, name: str, status: os.stat_result, target: int) -> bool:
        """Make a hard link to the copy of the same file; return False where there is none, or it can't be made."""
        first = self._seen.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        try:
            os.link(first, name, src_dir_fd=self.root, dst_dir_fd=target, follow_symlinks=False)
        except OSError as problem:
            if problem.errno not in CANT_LINK and problem.errno != errno.EMLINK:
                raise
            return False
        return True

    def _file(self, name: str, status: os.stat_result, source: int, target: int, path: str) -> None:
        if stat.S_ISREG(status.st_mode):
            from_fd = open_regular(name, READ_UNTRUSTED, dir_fd=source)
            try:
                to_fd = os.open(name, CREATE, 0o600, dir_fd=target)
                try:
                    _copy_bytes(from_fd, to_fd)
                    self._attributes(from_fd, to_fd, path)
                finally:
                    os.close(to_fd)
            finally:
                os.close(from_fd)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        with suppress(OSError):
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _attributes(self, source: int, target: int, path: str) -> None:
        """Give an open file or folder the owner, extended attributes, mode and times of another, in this order:
        a change of the owner clears setuid and capabilities (chown(2))."""
        status = os.fstat(source)
        kept = keep_owner(target, status)
        mode = stat.S_IMODE(status.st_mode)
        names = _extended(source)
        if not kept and (mode & _SPECIAL or CAPABILITIES in names):
            self.lost.append(path)
            mode &= ~_SPECIAL
        for name in names:
            if kept or name != CAPABILITIES:
                with suppress(OSError):  # the other filesystem may not have it, or only root may set it
                    os.setxattr(target, name, os.getxattr(source, name))
        os.fchmod(target, mode)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _extended(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError:
        return []


def _copy_bytes(source: int, target: int) -> None:
    try:
        while os.sendfile(target, source, None, _PIECE):  # None: from where it is now
            pass
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # sendfile(2)
            raise
        while piece := os.read(source, _PIECE):
            write_all(target, piece)
