"""Publishing of finished files in a folder: whole or not at all, with their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from envpack.publish.base import Release, Upload
from envpack.publish.release import CHECKSUM, checksum_line
from envpack.runtime.errors import DestinationError, failed_path
from envpack.runtime.fs.io import open_regular, read_file, write_pieces
from envpack.runtime.fs.lock import folder_locked
from envpack.runtime.fs.paths import make_folders
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.fs.temporary import is_temporary, new_file, new_folder, replace_file
from envpack.runtime.report import Step

_CHUNK = 1 << 20
_MAX_SMALL = 64 << 20
"""Bytes of the largest document that is read: SBOMs of large environments have some megabytes."""


def sha256_of(path: Path, step: Step | None = None) -> str:
    """Return the sha256 of a file, in hex; ``step`` is advanced by the bytes read."""
    digest = hashlib.sha256()
    with open(path, "rb", opener=open_regular) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if step is not None:
                step.advance(len(chunk))
    return digest.hexdigest()


def checksum_path(bundle: Path) -> Path:
    """Return the path of a bundle's checksum: the bundle's path with ``.sha256`` appended."""
    return bundle.with_name(bundle.name + CHECKSUM)


def publish(finished: Path, bundle: Path, sha256: str) -> None:
    """Move a finished bundle to its path, replacing an existing one, and write its ``.sha256`` beside it.

    At no moment is there a checksum beside a bundle that it does not belong to, also when several processes
    publish to one path.

    Args:
        finished: The finished bundle, on the same filesystem.
        bundle: The path to move it to.
        sha256: Its digest, in hex.

    Raises:
        DestinationError: A folder is at one of these paths, or they can't be written.
    """
    checksum = checksum_path(bundle)
    _sync(finished)
    line = checksum_line(sha256, bundle.name).encode()
    try:
        with folder_locked(bundle.parent):
            checksum.unlink(missing_ok=True)
            finished.replace(bundle)
            replace_file(checksum, line, durable=False)
        sync_folder(bundle.parent)
    except OSError as problem:
        raise DestinationError(f"can't write {failed_path(problem, bundle)}: {problem.strerror}") from None


class LocalFolder:
    """A folder that releases are published in, as `envpack.publish.base.Publisher` says."""

    replaces = True

    def __init__(self, folder: Path, hint: str = "Choose another directory with --output.") -> None:
        """Take the folder, which need not exist, and a hint that begins with "Choose", for errors."""
        self._folder, self._hint = folder, hint
        self._staging: Path | None = None
        self._read: dict[str, bytes | None] = {}

    def address(self, name: str) -> str:
        return str(self._folder / name)

    def files(self) -> Mapping[str, int]:
        try:
            with os.scandir(self._folder) as entries:
                return dict(filter(None, map(_name_and_size, entries)))
        except FileNotFoundError:
            return {}
        except OSError as problem:
            raise self._failed("read", problem) from None

    def read(self, name: str) -> bytes:
        try:
            content = _content(self._folder / name)
        except OSError as problem:
            raise self._failed("read", problem) from None
        self._read[name] = content
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder / name))
        return content

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a hidden folder inside the folder, on its filesystem, for an unfinished bundle.

        Raises:
            DestinationError: The folder can't be made.
        """
        folder, made = self._folder, not self._folder.exists()
        stack = ExitStack()
        try:
            make_folders(folder)
            staging = stack.enter_context(new_folder(folder / "staging"))
        except OSError as problem:
            raise self._failed("write to", problem) from None
        try:
            with stack:
                self._staging = staging
                yield staging
        except BaseException:
            if made:
                with suppress(OSError):  # not empty: another process wrote there meanwhile
                    folder.rmdir()
            raise

    @contextmanager
    def reserve(self, claim: Upload, names: Sequence[str], *, resume: bool = False) -> Iterator[Release]:
        """Reserve the names by creating ``claim``, also against a release at the same moment."""
        bundle = self._folder / claim.name.removesuffix(CHECKSUM)
        release = _LocalRelease(bundle, self._staging, resume=resume)
        try:
            if not resume:
                make_folders(self._folder)
                for name in (claim.name, *names):
                    if os.path.lexists(self._folder / name):
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._folder / name))
            release.put(claim)
            yield release
        except FileExistsError:
            release.take_back()
            raise
        except OSError as problem:
            release.take_back()
            raise self._failed("write to", problem) from None
        except BaseException:
            release.take_back()
            raise

    def replace(self, file: Upload) -> None:
        path = self._folder / file.name
        try:
            with folder_locked(self._folder):
                changed = file.name in self._read and _content(path) != self._read.pop(file.name)
                if not changed:
                    replace_file(path, b"".join(file.chunks()))
        except OSError as problem:
            raise self._failed("write to", problem) from None
        if changed:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    def _failed(self, what: str, problem: OSError) -> DestinationError:
        hint = self._hint
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"Free some disk space, or c{hint[1:]}"
        return DestinationError(f"can't {what} {self._folder}: {problem.strerror}", hint=hint)


class _LocalRelease:
    def __init__(self, bundle: Path, staging: Path | None, *, resume: bool) -> None:
        self._bundle, self._folder, self._staging, self._resume = bundle, bundle.parent, staging, resume
        self._made: list[Path] = []

    def put(self, file: Upload) -> None:
        path = self._folder / file.name
        if self._resume:
            replace_file(path, b"".join(file.chunks()))
            return
        with new_file(path) as new:
            write_pieces(new.fd, file.chunks())
            os.fsync(new.fd)
            new.create(path)  # whole at once: another process that publishes the same compares it
            self._made.append(path)

    def commit(self, bundle: Upload) -> None:
        """Rename the bundle into the folder. It is there after a power cut only where its other files are."""
        if isinstance(bundle.content, Path) and bundle.content.parent == self._staging:
            _sync(bundle.content)
            sync_folder(self._folder)
            bundle.content.rename(self._bundle)
        else:
            with new_file(self._bundle) as new:
                write_pieces(new.fd, bundle.chunks())
                os.fsync(new.fd)
                sync_folder(self._folder)
                new.put(self._bundle)
        sync_folder(self._folder)

    def take_back(self) -> None:
        """Delete the files; but not when the bundle is there, perhaps by a process that completed the release."""
        if not self._bundle.exists():
            for path in self._made:
                path.unlink(missing_ok=True)


def _name_and_size(entry: os.DirEntry[str]) -> tuple[str, int] | None:
    try:
        if is_temporary(entry.name) or not entry.is_file():
            return None
        return entry.name, entry.stat().st_size
    except FileNotFoundError:  # removed meanwhile
        return None


def _content(path: Path) -> bytes | None:
    """Return the content of a small file; None where there is none."""
    try:
        return read_file(path, _MAX_SMALL)
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    """Write a file to the disk, so that a name never refers to content that a power cut destroyed."""
    with open(path, "rb", opener=open_regular) as file:
        os.fsync(file.fileno())
