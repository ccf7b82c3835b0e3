"""The members of a tar or zip archive, one after the other, each checked before it is used."""

from __future__ import annotations

import posixpath
import stat
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from envpack.interop.archive.decompression import DecompressedStream, max_unpacked_size
from envpack.interop.archive.formats import format_of
from envpack.interop.archive.tar_headers import Header, read_headers
from envpack.interop.archive.zip_entries import Entry, read_data, read_entries
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.tar import BLOCK
from envpack.runtime.format.tree_rules import leads_out, length_reason
from envpack.runtime.fs.io import open_regular

_PIECE = 1 << 20
_MAX_TARGET_SIZE = 1 << 16


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Args:
        path: The path in the archive.
        type: "file", "hardlink", "symlink" or "directory".
        mode: The permission bits.
        size: Bytes of data.
        mtime: Whole seconds since 1970.
        target: The target of a link; for a hard link, the path of another member.
        was_hardlink: The member was a hard link that carries data of its own, and is now a file.
    """

    path: str
    type: str
    mode: int = 0o644
    size: int = 0
    mtime: int = 0
    target: str = ""
    was_hardlink: bool = False


Members = Iterator[tuple[Member, Iterator[bytes | memoryview]]]
"""Each member with its data. Read the data before the next member is requested, or not at all."""


def read_members(path: Path, advance: Callable[[int], None]) -> Members:
    """Yield the members of the archive at ``path`` with their data.

    Args:
        path: A tar archive, plain or compressed, or a zip archive.
        advance: Called with the number of bytes of the file that were read since the last call.

    Raises:
        FormatError: The file is neither tar nor zip.
        IntegrityError: The archive is damaged, cut short, a decompression bomb, or unsafe: a path that is
            absolute, leads out or lies below a link, a link that leads out, a device or pipe, a second member of
            another kind with the same name.
    """
    kind = format_of(path)
    if not kind:
        raise FormatError(f"{path}: neither a bundle nor an archive made by conda-pack")
    checker = _TreeChecker()
    with _archive_in_errors(path):
        for member, data in _zip_members(path, advance) if kind == "zip" else _tar_members(path, kind, advance):
            checked = checker.check(member)
            if checked is not None:
                yield checked, _data_of(path, data)


@contextmanager
def _archive_in_errors(path: Path) -> Iterator[None]:
    """Add the path of the archive to the message of each IntegrityError."""
    try:
        yield
    except IntegrityError as problem:
        message = problem.message if problem.message.startswith(f"{path}: ") else f"{path}: {problem.message}"
        raise IntegrityError(message, hint=problem.hint, details=problem.details) from None


def _data_of(path: Path, data: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the data with errors that name the archive: the caller reads it outside of `read_members`."""
    with _archive_in_errors(path):
        yield from data


# --- tar ---


def _tar_members(path: Path, codec: str, advance: Callable[[int], None]) -> Members:
    with open(path, "rb", opener=open_regular) as file:
        stream = DecompressedStream(file, codec, max_unpacked_size(path.stat().st_size), advance)
        try:
            for header in read_headers(stream):
                yield _tar_member(header), _tar_data(stream, header)
        except IntegrityError:
            if stream.tell() == BLOCK:
                raise FormatError(f"{path}: neither a bundle nor an archive made by conda-pack") from None
            raise
        stream.finish()


def _tar_data(stream: DecompressedStream, header: Header) -> Iterator[memoryview]:
    remaining = header.size
    while remaining:
        piece = stream.piece(min(remaining, _PIECE))
        if not piece:
            raise IntegrityError(f"the archive is truncated within {header.path!r}")
        remaining -= len(piece)
        yield piece


def _tar_member(header: Header) -> Member:
    mode, mtime = header.mode & 0o777, max(0, header.mtime)
    if header.type == "hardlink" and header.size:
        # conda-pack writes these for scripts that share an inode, and other programs lose track there
        return Member(header.path, "file", mode, header.size, mtime, was_hardlink=True)
    return Member(header.path, header.type, mode, header.size, mtime, header.target)


# --- zip ---


def _zip_members(path: Path, advance: Callable[[int], None]) -> Members:
    with open(path, "rb", opener=open_regular) as file:
        entries = read_entries(file)
        if sum(entry.size for entry in entries) > max_unpacked_size(path.stat().st_size):
            raise IntegrityError(
                "the unpacked files would be larger than any environment in an archive of this size"
            )
        for entry in entries:
            yield _zip_member(file, entry), read_data(file, entry)
            advance(entry.stored)


def _zip_member(file: BinaryIO, entry: Entry) -> Member:
    kind, mode = stat.S_IFMT(entry.mode), entry.mode & 0o777
    if entry.path.endswith("/") and kind in (0, stat.S_IFDIR):
        return Member(entry.path, "directory", mode or 0o755)
    if kind == stat.S_IFLNK:
        if entry.size > _MAX_TARGET_SIZE:
            raise IntegrityError(f"{entry.path!r} is a link with an invalid target")
        target = b"".join(read_data(file, entry)).decode("utf-8", "surrogateescape")
        return Member(entry.path, "symlink", target=target)
    if kind not in (0, stat.S_IFREG):
        raise IntegrityError(f"{entry.path!r} is neither a file, a directory nor a link")
    try:
        mtime = max(0, timegm((*entry.date, 0, 0, 0)))
    except ValueError:
        raise IntegrityError(f"{entry.path!r} has the invalid date {entry.date}") from None
    return Member(entry.path, "file", mode or 0o644, entry.size, mtime)


# --- safety ---


class _TreeChecker:
    """The members seen so far, and the check that each new one fits into one tree inside one folder."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {"": "directory"}
        self._links: dict[str, str] = {}

    def check(self, member: Member) -> Member | None:
        """Return the member with a normalised path; None for a member that adds nothing to the tree.

        Absolute links pass: whether they lead out can be checked only when the environment's former prefix is
        known.
        """
        member = replace(member, path=safe_path(member.path))
        path, kind = member.path, "file" if member.type == "hardlink" else member.type
        wrong = length_reason(path) or length_reason(member.target.strip("/"))
        if wrong:
            raise IntegrityError(wrong)
        if not path and kind != "directory":
            raise IntegrityError("the root of the archive is not a directory")
        parent = posixpath.dirname(path)
        while self._kinds.setdefault(parent, "directory") == "directory":
            if not parent:
                break
            parent = posixpath.dirname(parent)
        else:
            raise IntegrityError(f"{path!r} is below {parent!r}, which is not a directory")
        earlier = self._kinds.setdefault(path, kind)
        if earlier != kind or (kind == "symlink" and self._links.setdefault(path, member.target) != member.target):
            raise IntegrityError(f"{path!r} is in the archive twice: as a {earlier}, and again as a {kind}")
        if "\0" in member.target:
            raise IntegrityError(f"the link {path!r} has an invalid target: {member.target!r}")
        if kind == "symlink" and not member.target.startswith("/") and leads_out(path, member.target):
            raise IntegrityError(f"the link {path!r} has a target outside the archive: {member.target!r}")
        if member.type == "hardlink":
            member = replace(member, target=safe_path(member.target))
            if self._kinds.get(member.target) != "file":
                raise IntegrityError(
                    f"the target {member.target!r} of the hard link {path!r} is not a file before it"
                )
            return member if path != member.target else None
        return member if path else None


def safe_path(path: str) -> str:
    """Return the path without ``.`` parts and a trailing slash, "" for the root.

    Raises:
        IntegrityError: The path is absolute, has a ``..`` part or an empty part, or holds a NUL character.
    """
    parts = [part for part in path.rstrip("/").split("/") if part != "."]
    if path.startswith("/") or "\0" in path or any(part in ("", "..") for part in parts if parts != [""]):
        raise IntegrityError(f"unsafe path {path!r}")
    return "/".join(parts)
