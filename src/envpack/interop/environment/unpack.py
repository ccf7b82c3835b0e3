"""Unpacking of another tool's archive, unchanged, into a private folder, where the environment is then read."""

from __future__ import annotations

import hashlib
import os
import posixpath
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envpack.interop.archive.formats import format_of
from envpack.interop.archive.members import Member, read_members
from envpack.interop.environment.conda_pack_files import find_root
from envpack.prefix.owners.ownership import source_of
from envpack.runtime.fs.io import create_file, open_regular, read_file, write_pieces
from envpack.runtime.fs.links import link_or_copy
from envpack.runtime.report import Step

_TIMEZONE_STEP, _MAX_TIMEZONE = 900, 15 * 3600
"""Seconds: time zones are whole quarters of an hour away from UTC, and less than 15 hours (tz database)."""


@dataclass(frozen=True)
class Unpacked:
    """The content of an unpacked archive; paths are relative to the environment.

    Args:
        format: The format, such as "gz" or "zip".
        root: The environment's folder in the archive, "" for the archive itself.
        hardlinks: Hard links that came with data of their own.
        conflicting: Files that were there twice, and differed.
        retimed: Sources with a time restored from their byte-code.
        links: Symbolic links.
    """

    format: str
    root: str
    hardlinks: tuple[str, ...]
    conflicting: tuple[str, ...]
    retimed: tuple[str, ...]
    links: tuple[str, ...]


def unpack(archive: Path, folder: Path, step: Step) -> Unpacked:
    """Unpack ``archive`` into the empty ``folder``; of the files' modes only the executable bit is used.

    The caller removes what was unpacked, also after an error.

    Args:
        archive: An archive of another tool.
        folder: An empty folder.
        step: Advanced by the bytes of the archive that were read.

    Raises:
        FormatError: There is no environment in the archive.
        IntegrityError: The archive is damaged or unsafe.
    """
    writer = _Writer(os.fsencode(folder))
    for member, data in read_members(archive, step.advance):
        writer.add(member, data)
    writer.finish()
    kind = format_of(archive)
    root = find_root(writer.kinds)
    start = len(root) + 1 if root else 0
    inside = [path[start:] for path in writer.kinds if path.startswith(f"{root}/" if root else "")]
    retimed = _restore_times(folder / root, inside) if kind == "zip" else ()
    return Unpacked(
        kind,
        root,
        tuple(path[start:] for path in writer.hardlinks),
        tuple(path[start:] for path in writer.conflicting),
        tuple(retimed),
        tuple(path[start:] for path, type in writer.kinds.items() if type == "symlink" and path[start:]),
    )


class _Writer:
    """A writer that fills a folder. Members were checked: none lies below a link, and none leads out."""

    def __init__(self, folder: bytes) -> None:
        self.kinds: dict[str, str] = {}
        self.hardlinks: list[str] = []
        self.conflicting: list[str] = []
        self._folder = folder
        self._folders = {b""}
        self._modes: list[tuple[bytes, int]] = []

    def add(self, member: Member, data: Iterable[bytes | memoryview]) -> None:
        name = os.fsencode(member.path)
        if member.type == "directory":
            self._make_folder(name)
            self._modes.append((name, member.mode))
            self.kinds.setdefault(member.path, "directory")
            return
        self._make_folder(posixpath.dirname(name))
        path = os.path.join(self._folder, name)
        previous_type = self.kinds.get(member.path)
        if previous_type == "symlink":
            return  # the same link once more
        previous_digest = _digest_of(path) if previous_type is not None else None
        if previous_digest is not None:
            os.unlink(path)
        if member.type == "symlink":
            os.symlink(os.fsencode(member.target), path)
        elif member.type == "hardlink":
            link_or_copy(os.path.join(self._folder, os.fsencode(member.target)), path)
        else:
            _write(path, member, data)
            if member.was_hardlink:
                self.hardlinks.append(member.path)
        if previous_digest is not None and previous_digest != _digest_of(path):
            self.conflicting.append(member.path)
        self.kinds[member.path] = member.type

    def _make_folder(self, name: bytes) -> None:
        if name not in self._folders:
            self._make_folder(posixpath.dirname(name))
            os.mkdir(os.path.join(self._folder, name), 0o700)
            self._folders.add(name)

    def finish(self) -> None:
        for name, mode in reversed(self._modes):
            os.chmod(os.path.join(self._folder, name), mode | 0o700)


def _write(path: bytes, member: Member, data: Iterable[bytes | memoryview]) -> None:
    mode = 0o700 if member.mode & 0o111 else 0o600
    create_file(path, mode, member.mtime, lambda fd: write_pieces(fd, data))


def _digest_of(path: bytes) -> str:
    with open(path, "rb", opener=open_regular) as file:
        state = hashlib.sha256()
        while piece := file.read(1 << 20):
            state.update(piece)
        return state.hexdigest()


def _restore_times(folder: Path, paths: Iterable[str]) -> Iterator[str]:
    """Set the time of sources to the time that their byte-code records, and yield their paths.

    The time is restored where it agrees with the zip's, as far as a zip can state it: local time, in steps of two
    seconds (APPNOTE 4.4.6), without the time zone.
    """
    present = set(paths)
    for path in sorted(present):
        source = source_of(path) if path.endswith(".pyc") else ""
        if source not in present:
            continue
        head = read_file(folder / path, 16)
        facts = os.lstat(folder / source)
        if len(head) < 16 or head[4:8] != bytes(4):
            continue  # not a timestamp pyc of PEP 552
        mtime, size = struct.unpack("<II", head[8:16])
        difference = mtime - int(facts.st_mtime)
        if (
            size == facts.st_size
            and abs(difference) <= _MAX_TIMEZONE
            and difference % _TIMEZONE_STEP in (0, 1)
            and difference
        ):
            os.utime(folder / source, (mtime, mtime))
            yield source
