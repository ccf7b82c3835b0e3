"""Creation, reading and writing of whole files through descriptors, and the flags to open them with.

Files are opened for reading only here, with `open_regular`: open(2) of a pipe waits for its writer, and any user
may put one where a file was.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterable, Iterator

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a file that must not exist: if another process creates it first, also as a link, opening fails."""

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""For a path that may have become anything: a FIFO is not waited for (open(2), O_NONBLOCK). Check the type of what
is open, as `open_regular` does."""

READ_UNTRUSTED = READ | os.O_NOFOLLOW
"""Like READ, and no link is followed."""

READ_FOLDER = READ | os.O_DIRECTORY | os.O_NOFOLLOW
"""For a folder itself, not a link to one."""

LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""For a lock file, which is created when it is missing."""

AT_ONCE = 128 << 10
"""Bytes of one write(2): the size that cp(1) uses, with measurements in its ioblksize.h. Writes of 4 MiB took a
third longer."""


def create_file(
    path: bytes, mode: int, mtime: int | None, fill: Callable[[int], object], *, exact: bool = False
) -> None:
    """Create a file and fill it; remove it again when that fails.

    Args:
        path: the file to create.
        mode: its permission bits.
        mtime: its access and modification time, in seconds since the epoch; None: the current time.
        fill: called with the descriptor of the empty file.
        exact: set ``mode`` whatever the umask is, and last, so that no other user can open an incomplete file.

    Raises:
        FileExistsError: something has that name already.
        OSError: the file can't be created or written; or it can't be removed again, so that a caller that then
            tries another way reports the reason.
    """
    fd = os.open(path, CREATE, 0o600 if exact else mode)
    try:
        fill(fd)
        if exact:
            os.fchmod(fd, mode)
        if mtime is not None:
            os.utime(fd, (mtime, mtime))
    except OSError:
        os.unlink(path)
        raise
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def other_owner(folder: Path) -> os.stat_result | None:
    """Return the status of a folder of another user, to whom belongs what root writes there; else None."""
    if os.geteuid() != 0:
        return None
    status = os.lstat(folder)
    return status if status.st_uid != 0 else None


def keep_owner(fd: int, status: os.stat_result) -> bool:
    """Give an open file the owner and group in ``status``, as far as allowed; return whether it has both now."""
    changes: tuple[Callable[[], None], ...] = (
        lambda: os.fchown(fd, status.st_uid, status.st_gid),
        lambda: os.fchown(fd, -1, status.st_gid),
    )
    for change in changes:
        now = os.fstat(fd)
        if (now.st_uid, now.st_gid) == (status.st_uid, status.st_gid):
            return True
        with suppress(OSError):
            change()
    now = os.fstat(fd)
    return (now.st_uid, now.st_gid) == (status.st_uid, status.st_gid)


ACL = "system.posix_acl_access"
"""The extended attribute of an access control list: acl(5). With one, st_mode has its mask in the place of what
the group may do."""


def access_list(path: bytes | Path) -> bytes:
    """Return the access control list of a file or folder; b"" where there is none."""
    try:
        return os.getxattr(path, ACL, follow_symlinks=False)
    except OSError:
        return b""


def keep_mode(new: int | Path, before: os.stat_result, acl: bytes, most: int = 0o7777) -> None:
    """Give what replaces a file or folder its access list and permission bits; no group gets more than it had.

    Args:
        new: the descriptor or the path of the new one; if its group is another, that group gets at most what all
            users have.
        before: the status of what is replaced.
        acl: its `access_list`.
        most: the bits that the new one may have.

    Raises:
        OSError: the bits can't be set.
    """
    mode = stat.S_IMODE(before.st_mode)
    if os.stat(new).st_gid != before.st_gid:
        mode = mode & ~(stat.S_ISGID | stat.S_IRWXG) | mode & (mode & stat.S_IRWXO) << 3
    elif acl:
        try:
            os.setxattr(new, ACL, acl)
        except OSError:  # such as an entry for a user whom this user namespace does not show
            mode &= ~stat.S_IRWXG
    os.chmod(new, mode & most)


def write_pieces(fd: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write all of ``pieces`` to a descriptor.

    Raises:
        OSError: a write failed.
    """
    for piece in pieces:
        write_all(fd, piece)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` to a descriptor; one write(2) may write only a part.

    Raises:
        OSError: a write failed.
    """
    if len(data) > AT_ONCE:
        data = memoryview(data)
    done = 0
    while done < len(data):
        done += os.write(fd, data[done : done + AT_ONCE])


_PIECE = 1 << 20

MAX_STREAM = 64 << 20
"""Bytes of the largest file or pipe that a user names and that is read whole: a lock file of 100,000 packages is
smaller. A pipe may never end."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_OWN_DESCRIPTORS = (b"/dev/fd/", b"/dev/stdin", b"/proc/self/fd/")
"""Paths of the descriptors that this process was started with: ``<(command)`` of a shell is one of them."""


class NotRegularFileError(OSError):
    """A path is not of a regular file, but of a directory, a pipe, a socket or a device."""

    def __init__(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], mode: int) -> None:
        kind = stat.S_IFMT(mode)
        reason = os.strerror(errno.EISDIR) if kind == stat.S_IFDIR else f"it is {_KINDS[kind]}, not a regular file"
        super().__init__(errno.EISDIR if kind == stat.S_IFDIR else errno.ENXIO, reason, os.fsdecode(path))


def open_regular(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes], flags: int = READ, *, dir_fd: int | None = None
) -> int:
    """Return a descriptor of a regular file; refuse anything else at once. Also an ``opener`` for `open`.

    Args:
        path: the file; links are followed unless the flags say otherwise.
        flags: flags of open(2), for reading.
        dir_fd: the descriptor of the folder that a relative path starts at.

    Raises:
        NotRegularFileError: the path names something else.
        OSError: the file can't be opened, or the path holds a NUL.
    """
    try:
        fd = os.open(path, flags | READ, dir_fd=dir_fd)
    except ValueError:  # Python's own answer to a NUL
        raise OSError(errno.EINVAL, "a path with a NUL in it", os.fsdecode(path)) from None
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # open(2): a socket
            raise NotRegularFileError(path, stat.S_IFSOCK) from None
        raise
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularFileError(path, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_stream(path: str | bytes | os.PathLike[str] | os.PathLike[bytes], flags: int) -> int:
    if not os.path.abspath(os.fsencode(path)).startswith(_OWN_DESCRIPTORS):
        return open_regular(path, flags)
    fd = os.open(path, flags | READ)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        os.close(fd)
        raise NotRegularFileError(path, mode)
    os.set_blocking(fd, True)  # the writer is there, and may be slow
    return fd


GIT_LFS = b"version https://git-lfs."
"""The first bytes of the text that Git stores instead of a large file (git-lfs, docs/spec.md, "The Pointer")."""

GIT_LFS_ERROR = "a pointer of Git LFS instead of the file"
GIT_LFS_HINT = "Run 'git lfs pull' in the checkout of Git."


def read_file(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes], most: int | None = None, *, stream: bool = False
) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        most: the largest number of bytes to return; None for all.
        stream: also read a pipe that a shell opened for this process, ``<(command)``: for files that a user names.

    Raises:
        NotRegularFileError: the path names something else.
        OSError: the file can't be opened or read, or the path holds a NUL; with ``stream``, it is longer than
            `MAX_STREAM`.
    """
    fd = _open_stream(path, READ) if stream else open_regular(path)
    with open(fd, "rb") as file:
        if most is not None or not stream:
            return file.read(-1 if most is None else most)
        data = file.read(MAX_STREAM + 1)
    if len(data) > MAX_STREAM:
        raise OSError(errno.EFBIG, f"it is longer than {MAX_STREAM >> 20} MiB", os.fsdecode(path))
    return data


@contextmanager
def opened(path: bytes) -> Iterator[int]:
    """Open a regular file for reading, and yield its descriptor."""
    fd = open_regular(path)
    try:
        yield fd
    finally:
        os.close(fd)


def read_pieces(path: bytes) -> Iterator[bytes]:
    """Yield the content of a file in pieces of at most 1 MiB.

    No read asks for more than the rest of the file: os.read allocates as many bytes as it is asked for.

    Raises:
        OSError: the file can't be opened or read.
    """
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        while size > 0:
            piece = os.read(fd, min(size, _PIECE))
            if not piece:
                return
            size -= len(piece)
            yield piece
