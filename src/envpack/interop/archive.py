"""The members of a tar or zip archive, one after the other, each checked before anything is done with it."""

from __future__ import annotations

import posixpath
import stat
import tarfile
import zipfile
import zlib
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.interop.streams import Unpacked, format_of, most_unpacked
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.onetree import leads_out

_PIECE = 1 << 20
_LONGEST_HEADER = 1 << 20
"""Most bytes of a name, or of pax's further fields: Linux takes no path over 4,096 bytes (PATH_MAX)."""
_LONGEST_TARGET = 1 << 16

_KINDS = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True)
class Member:
    """One member. ``type``: "file", "hardlink", "symlink" or "directory"; ``mtime`` in whole seconds since 1970;
    ``target`` of a link: for a hard link a member's path. ``linked``: a hard link that carries data of its own."""

    path: str
    type: str
    mode: int = 0o644
    size: int = 0
    mtime: int = 0
    target: str = ""
    linked: bool = False


Members = Iterator[tuple[Member, Iterator[bytes | memoryview]]]
"""Each member with its data, which must be taken before the next one is asked for, or never."""


def read_members(path: Path, advance: Callable[[int], None]) -> Members:
    """The members of the archive at ``path``; ``advance`` is told the bytes of the file that were read.

    Raises FormatError when it is neither tar nor zip, IntegrityError when it is damaged, cut short, a bomb, or
    unsafe: a path that is absolute, leads out or lies below a link, a link that leads out, a device or pipe, a
    second member of another kind by the same name.
    """
    kind = format_of(path)
    if not kind:
        raise FormatError(f"{path}: neither a bundle nor an archive that conda-pack made")
    guard = _Guard()
    with _named(path):
        for member, data in _zip_members(path, advance) if kind == "zip" else _tar_members(path, kind, advance):
            checked = guard.check(member)
            if checked is not None:
                yield checked, _named_data(path, data)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors say which archive it is, and those of zipfile are envpack's own."""
    try:
        yield
    except IntegrityError as problem:
        message = problem.message if problem.message.startswith(f"{path}: ") else f"{path}: {problem.message}"
        raise IntegrityError(message, hint=problem.hint, details=problem.details) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as problem:
        raise IntegrityError(f"{path}: damaged: {problem}") from None


def _named_data(path: Path, data: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The data is read by who asked for the member, outside of what reads the members."""
    with _named(path):
        yield from data


# --- tar ---


class _Header(tarfile.TarInfo):
    """A header block, read so that nothing is overlooked: ``tarfile`` ends quietly at a damaged one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if len(buf) < tarfile.BLOCKSIZE:
            raise IntegrityError("it is cut short: the end-of-archive marker is missing")
        if not any(buf):
            return super().frombuf(buf, encoding, errors)  # the marker
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as problem:
            raise IntegrityError(f"damaged: {problem}") from None
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        longest = _LONGEST_HEADER if header.type in (*extended, *tarfile.GNU_TYPES) else None
        if header.size < 0 or (longest is not None and header.size > longest):
            raise IntegrityError(f"a header states the impossible size {header.size}")
        return header

    def isreg(self) -> bool:
        """Also a hard link with data: conda-pack writes these for scripts that share an inode, and a header of
        that type has no data for anybody else, so that other programs lose track there."""
        return super().isreg() or (self.type == tarfile.LNKTYPE and self.size > 0)


def _tar_members(path: Path, codec: str, advance: Callable[[int], None]) -> Members:
    with path.open("rb") as file:
        stream = Unpacked(file, codec, most_unpacked(path.stat().st_size), advance)
        try:
            archive = tarfile.open(  # type: ignore[call-overload]  # noqa: SIM115  the file is closed above
                mode="r:",
                fileobj=stream,
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
            while (header := archive.next()) is not None:
                archive.members.clear()
                yield _tar_member(header), _tar_data(stream, header)
        except (tarfile.TarError, RecursionError, IntegrityError) as problem:
            if stream.tell() == tarfile.BLOCKSIZE:
                raise FormatError(f"{path}: neither a bundle nor an archive that conda-pack made") from None
            if isinstance(problem, IntegrityError):
                raise
            raise IntegrityError(f"damaged: {problem}") from None
        stream.finish()


def _tar_data(stream: Unpacked, header: tarfile.TarInfo) -> Iterator[memoryview]:
    left = header.size if header.isreg() else 0
    stream.seek(header.offset_data)
    while left:
        piece = stream.piece(min(left, _PIECE))
        if not piece:
            raise IntegrityError(f"it is cut short within {header.name!r}")
        left -= len(piece)
        yield piece


def _tar_member(header: tarfile.TarInfo) -> Member:
    path, mode, mtime = header.name, header.mode & 0o777, max(0, int(header.mtime))
    if header.size < 0:
        raise IntegrityError(f"{path!r} states the impossible size {header.size}")
    if header.issparse() or header.type in _KINDS:
        raise IntegrityError(f"{path!r} is {_KINDS.get(header.type, 'a sparse file')}, as no environment has them")
    if header.type == tarfile.LNKTYPE:
        linked = header.size > 0
        kind = "file" if linked else "hardlink"
        return Member(path, kind, mode, header.size, mtime, "" if linked else header.linkname, linked)
    if header.type == tarfile.SYMTYPE:
        return Member(path, "symlink", mtime=mtime, target=header.linkname)
    if header.type == tarfile.DIRTYPE:
        return Member(path, "directory", mode)
    if header.type in tarfile.REGULAR_TYPES:
        return Member(path, "file", mode, header.size, mtime)
    raise IntegrityError(f"{path!r} is a member of the unknown type {header.type!r}")


# --- zip ---


def _zip_members(path: Path, advance: Callable[[int], None]) -> Members:
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        if sum(info.file_size for info in listed) > most_unpacked(path.stat().st_size):
            raise IntegrityError("it would unpack to more than any environment of its size")
        for info in listed:
            yield _zip_member(archive, info), _zip_pieces(archive, info)
            advance(info.compress_size)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    if info.flag_bits & 1:
        raise IntegrityError(f"{info.filename!r} is encrypted")
    if info.orig_filename != info.filename:
        raise IntegrityError(f"unsafe path {info.orig_filename!r}")
    kind = stat.S_IFMT(mode)
    if info.is_dir():
        return Member(info.filename, "directory", mode & 0o777 or 0o755)
    if kind == stat.S_IFLNK:
        if info.file_size > _LONGEST_TARGET:
            raise IntegrityError(f"{info.filename!r} is a link with an impossible target")
        target = archive.read(info).decode("utf-8", "surrogateescape")
        return Member(info.filename, "symlink", target=target)
    if kind not in (0, stat.S_IFREG):
        raise IntegrityError(f"{info.filename!r} is neither a file, a folder nor a link")
    try:
        mtime = max(0, timegm((*info.date_time, 0, 0, 0)))
    except ValueError:
        raise IntegrityError(f"{info.filename!r} has the impossible date {info.date_time}") from None
    return Member(info.filename, "file", mode & 0o777 or 0o644, info.file_size, mtime)


def _zip_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    left = info.file_size
    with archive.open(info) as data:
        while piece := data.read(_PIECE):
            left -= len(piece)
            yield piece
    if left:
        raise IntegrityError(f"{info.filename!r} is not as long as stated")


# --- safety ---


class _Guard:
    """Knows what is there already, and refuses what does not fit into one tree inside one folder."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {"": "directory"}
        self._links: dict[str, str] = {}

    def check(self, member: Member) -> Member | None:
        """The member with its path made plain; None for what adds nothing to the tree.

        Absolute links pass: whether they lead out shows when the environment's former place is known.
        """
        member = replace(member, path=safe_path(member.path))
        path, kind = member.path, "file" if member.type == "hardlink" else member.type
        if not path and kind != "directory":
            raise IntegrityError("the archive's root is no folder")
        parent = posixpath.dirname(path)
        while self._kinds.setdefault(parent, "directory") == "directory":
            if not parent:
                break
            parent = posixpath.dirname(parent)
        else:
            raise IntegrityError(f"{path!r} lies below {parent!r}, which is no folder")
        before = self._kinds.setdefault(path, kind)
        if before != kind or (kind == "symlink" and self._links.setdefault(path, member.target) != member.target):
            raise IntegrityError(f"{path!r} is there twice: as a {before} and as another {kind}")
        if kind == "symlink" and not member.target.startswith("/") and leads_out(path, member.target):
            raise IntegrityError(f"the link {path!r} leads out of the archive: {member.target!r}")
        if member.type == "hardlink":
            member = replace(member, target=safe_path(member.target))
            if self._kinds.get(member.target) != "file":
                raise IntegrityError(f"the hard link {path!r} has no file {member.target!r} before it")
            return member if path != member.target else None
        return member if path else None


def safe_path(path: str) -> str:
    """The path without ``.`` parts and a trailing slash, "" for the root; raises IntegrityError when unsafe."""
    parts = [part for part in path.rstrip("/").split("/") if part != "."]
    if path.startswith("/") or "\0" in path or any(part in ("", "..") for part in parts if parts != [""]):
        raise IntegrityError(f"unsafe path {path!r}")
    return "/".join(parts)
