"""Repair of a deployment from the bundle it came from: only files that are changed or missing are written.

Only the frames that hold these files are read. Each file is written to a temporary sibling, verified by its digest
and renamed over the old one, so after an interruption the next repair continues. Files that no bundle brought are
left alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from bisect import bisect_left, bisect_right
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping

from envpack.runtime.commands.verify import compare_tree, prefixes_of
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.record import read_record
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError, FormatError, IntegrityError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import DEPLOYMENT_PATH, DIGEST_PATH, LOCK_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.manifest_json import digest_line
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.fs.io import CREATE, READ, write_pieces
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import sibling_path, umask
from envpack.runtime.reader.bundle import Bundle, Located, open_bundle
from envpack.runtime.relocation.files import deployed_bytes, stored_digest, verify_digest
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.store.store import Store
from envpack.runtime.tree.compare import Differences, folders_of
from envpack.runtime.tree.prefix import check_prefix
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix

_TEMPORARY = "envpack-new"
"""Marker in the names of temporary siblings."""


@dataclass(frozen=True)
class Repaired:
    """The result of a repair.

    Attributes:
        path: Directory of the deployment.
        name: Name of the environment.
        version: Version of the environment.
        bundle: The bundle, as given.
        mended: Paths that were repaired, in the order of the paths table.
        read: Bytes that were read of the bundle's segments, as stored.
        extra: Files that no bundle brought, left as they are.
        seconds: Duration of the whole repair.
    """

    path: str
    name: str
    version: str
    bundle: str
    mended: tuple[str, ...]
    read: int
    extra: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.repair/1``."""
        return {**vars(self), "mended": list(self.mended), "extra": list(self.extra)}


def repair(
    root: Path,
    bundle: Path | str,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    decoders: Mapping[str, Decoder] = STANDARD,
    approve: Callable[[bytes, Path | str], None] | None = None,
) -> Repaired:
    """Restore every path of the deployment at ``root`` to what ``bundle`` has.

    Args:
        root: Directory of the deployment.
        bundle: Path or URL of the bundle that it was deployed from.
        reporter: Receives progress and warnings.
        jobs: Processors to use for the comparison (default: those this process may use).
        decoders: Decoders by codec name.
        approve: See `envpack.runtime.commands.deploy.deploy`.

    Raises:
        DestinationError: The deployment came from another bundle, another envpack has locked it, it can't be
            written to, or a directory with other files is where a file belongs.
        FormatError: ``root`` is no deployment, or the bundle can't be read.
        IntegrityError: The bundle is damaged.
    """
    started = time.monotonic()
    root = Path(os.path.realpath(root))
    if not root.is_dir():
        raise FormatError(f"{root} is no folder", hint="Give the place of a deployment.")
    with open_bundle(bundle, decoders) as opened:
        if approve is not None:
            approve(opened.manifest_bytes, bundle)
        _check_same(root, opened)
        with exclusive(DeploymentState(root), reporter), locked(root / LOCK_PATH, wait=True):
            manifest = opened.manifest
            check_prefix(manifest, str(root))
            table_bytes = opened.table_bytes()
            table = table_from_json(table_bytes)
            mender = _Mender(root, table)
            with _as_destination(root):
                head = mender.head(opened.manifest_bytes, table_bytes)
            _, prefixes = prefixes_of(root)
            before = compare_tree(root, manifest, table, prefixes, reporter, jobs)
            with _as_destination(root), mender.writable_folders():
                mended, read = _mend(mender, opened, before, reporter)
                _tell_store(root, table, before, reporter)
            after = compare_tree(root, manifest, table, prefixes, reporter, jobs) if mended else before
        if after.changed or after.missing:
            left = [f"{item.path}: {item.reason}" for item in after.changed] + after.missing
            raise DestinationError(
                f"{len(left)} paths in {root} could not be mended: something else changes them",
                hint="Stop what uses the environment, then repair it again.",
                details=left,
            )
    rewrite_prefix(root, reporter)
    return Repaired(
        path=str(root),
        name=manifest.name,
        version=manifest.version,
        bundle=opened.name,
        mended=(*head, *mended),
        read=read,
        extra=tuple(after.extra),
        seconds=round(time.monotonic() - started, 3),
    )


def _check_same(root: Path, bundle: Bundle) -> None:
    """Raise DestinationError where the bundle's manifest is not the deployment's.

    The manifest, its digest and the record name it; one match is enough, as any of them may be the damaged file.
    """
    wanted = hashlib.sha256(bundle.manifest_bytes).hexdigest()
    known: list[str] = []
    with suppress(OSError):
        known.append(hashlib.sha256((root / MANIFEST_PATH).read_bytes()).hexdigest())
    with suppress(OSError, ValueError, AttributeError):
        known.append(str(json.loads((root / DEPLOYMENT_PATH).read_text(encoding="utf-8")).get("manifest_sha256")))
    with suppress(OSError):
        line = (root / DIGEST_PATH).read_bytes()
        known.append(wanted if line == digest_line(bundle.manifest_bytes) else "")
    if not known:
        raise FormatError(f"{root} is no environment that envpack unpacked")
    if wanted not in known:
        manifest = bundle.manifest
        raise DestinationError(
            f"{root} was not deployed from {bundle.name}: its manifest is another one",
            hint="Repair it with the bundle it came from; .envpack/deployment.json names that.",
            details=[f"the bundle's manifest: {manifest.name} {manifest.version}, sha256 {wanted}"],
        )


@contextmanager
def _as_destination(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't mend {root}: {problem.strerror}: {os.fsdecode(problem.filename or '')}",
            hint="Repair it as the user who owns it, with space on its disk.",
        ) from None


def _mend(mender: _Mender, bundle: Bundle, found: Differences, reporter: Reporter) -> tuple[list[str], int]:
    """Restore the paths that differ; return them, and the bytes that were read of the bundle."""
    broken = {item.path for item in found.changed} | set(found.missing)
    if not broken:
        return [], 0
    mended = [path for path in sorted(mender.folders) if path in broken and mender.folder(path)]
    read = 0
    with reporter.step("Mending what is changed or missing", len(broken), "paths") as step:
        located: dict[str, list[Located]] = {}
        for frame in bundle.frames():
            located.setdefault(frame.segment, []).append(frame)
        bundle.prefetch(_needed(located, mender.table, broken))
        for id, records in mender.table.segments.items():
            todo = _with_their_links(records, broken)
            reader = _Reader(bundle, located.get(id, []))
            for record in todo:
                if record.type == "file" and record.path in broken:
                    mender.file(record, reader.take(record.offset, record.size))
                elif record.type in ("symlink", "hardlink"):
                    mender.link(record)
                if record.path in broken and record.type != "directory":
                    mended.append(record.path)
                    step.advance()
            read += reader.read
        step.detail = f"{human_size(read)} read from the bundle"
    return mended, read


def _tell_store(root: Path, table: PathsTable, found: Differences, reporter: Reporter) -> None:
    """Mark the store's files that were changed as damaged, and warn.

    A changed file of the deployment may be a hard link to the store's file, which other deployments share and
    which later ones would get: the store does not use it any more.
    """
    deployed = read_record(root)
    if deployed is None or not deployed.store or not found.changed:
        return
    store = Store(Path(deployed.store))
    changed = {item.path for item in found.changed}
    for id, records in table.segments.items():
        key = table.digests[id]
        for index, record in enumerate(records):
            if record.type != "file" or record.path not in changed:
                continue
            if _is_changed(store.folder(key) / str(index), record):
                with suppress(OSError):
                    store.note_damage(key)
                reporter.warn(
                    f"{record.path} is changed in the store {store.path}, too, which does not use it any "
                    "more; verify the other deployments that share it"
                )


def _is_changed(path: Path, record: PathRecord) -> bool:
    try:
        fd = os.open(path, READ)
    except FileNotFoundError:
        return False
    try:
        return stored_digest(fd, None, record.size, None) != record.sha256
    finally:
        os.close(fd)


def _with_their_links(records: Iterable[PathRecord], broken: set[str]) -> Iterator[PathRecord]:
    """Yield the broken records, and every hard link to them: they have to be one file again."""
    for record in records:
        if record.path in broken or (record.type == "hardlink" and record.target in broken):
            yield record


def _needed(located: Mapping[str, list[Located]], table: PathsTable, broken: set[str]) -> Iterator[Located]:
    """The frames that hold a broken file, in the order in which they are taken."""
    for id, records in table.segments.items():
        frames = located.get(id, [])
        starts = [0, *accumulate(each.frame.size for each in frames)]
        wanted: set[int] = set()
        for record in records:
            if record.type == "file" and record.size and record.path in broken:
                first = bisect_right(starts, record.offset) - 1
                wanted.update(range(first, bisect_left(starts, record.offset + record.size)))
        yield from (frame for index, frame in enumerate(frames) if index in wanted)


class _Reader:
    """A reader of pieces of a segment's uncompressed stream, by ascending offset; each frame is loaded once."""

    def __init__(self, bundle: Bundle, frames: list[Located]) -> None:
        self._bundle, self._frames = bundle, frames
        self._loaded: tuple[int, bytes] = (-1, b"")
        self.read = 0

    def take(self, offset: int, size: int) -> Iterator[memoryview]:
        start = 0
        for index, located in enumerate(self._frames):
            end = start + located.frame.size
            if size and start <= offset < end:
                if self._loaded[0] != index:
                    self._loaded = (index, self._bundle.load(located))
                    self.read += located.frame.stored
                piece = memoryview(self._loaded[1])[offset - start :][:size]
                yield piece
                offset, size = offset + len(piece), size - len(piece)
            start = end
        if size:
            raise IntegrityError(f"{self._bundle.name}: a file lies outside its segment")


class _Mender:
    """A writer of single paths of a tree, each replaced by one rename."""

    def __init__(self, root: Path, table: PathsTable) -> None:
        self.root, self.table = root, table
        self.folders = folders_of(table)
        self._prefix = os.fsencode(root)
        self._umask = umask()
        self._modes = {record.path: record.mode for record in table if record.type == "directory"}
        self._opened: dict[Path, int] = {}

    def head(self, manifest: bytes, table: bytes) -> list[str]:
        """Write manifest, digest and paths table where they differ from the bundle's; return their paths."""
        mended = []
        self._folder_at(self.root / ".envpack")
        for path, data in ((MANIFEST_PATH, manifest), (DIGEST_PATH, digest_line(manifest)), (PATHS_PATH, table)):
            place = self.root / path
            if place.is_symlink() or not place.is_file() or place.read_bytes() != data:
                record = PathRecord(path, "file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
                self.file(record, iter([memoryview(data)]))
                mended.append(path)
        return mended

    def folder(self, path: str) -> bool:
        """Make a directory where there is none, in place of any file; return whether it was made."""
        place = self.root / path
        made = self._folder_at(place)
        if made and path in self._modes:
            os.chmod(place, self._modes[path] & ~self._umask)
        return made

    def _folder_at(self, place: Path) -> bool:
        if place.is_dir() and not place.is_symlink():
            return False
        if place.parent != self.root:
            self._folder_at(place.parent)
        self._unlock(place.parent)
        if os.path.lexists(place):
            os.unlink(place)
        os.mkdir(place, 0o755)
        return True

    def file(self, record: PathRecord, pieces: Iterator[memoryview]) -> None:
        """Write the file of ``record``, verified by its digest, and replace the old one."""
        place = self.root / record.path
        self._folder_at(place.parent)
        self._unlock(place.parent)
        with _temporary(place) as temporary:
            fd = os.open(temporary, CREATE, 0o600)
            try:
                self._write(fd, record, pieces)
                os.fchmod(fd, record.mode & ~self._umask)
                os.utime(fd, (record.mtime, record.mtime))
                os.fsync(fd)
            finally:
                os.close(fd)
            _put(temporary, place)

    def _write(self, fd: int, record: PathRecord, pieces: Iterator[memoryview]) -> None:
        verified = verify_digest(pieces, record.path, record.sha256)
        write_pieces(fd, deployed_bytes(verified, record.relocation, record.size, self._prefix, record.path))

    def link(self, record: PathRecord) -> None:
        """Make the symbolic or hard link of ``record``, and replace the old one."""
        place = self.root / record.path
        self._folder_at(place.parent)
        self._unlock(place.parent)
        with _temporary(place) as temporary:
            if record.type == "symlink":
                os.symlink(os.fsencode(record.target), temporary)
            else:
                os.link(self.root / record.target, temporary)
            _put(temporary, place)

    def _unlock(self, folder: Path) -> None:
        """Make our own read-only directory writable until the repair is done."""
        mode = os.stat(folder).st_mode & 0o7777
        if mode & 0o300 != 0o300 and folder not in self._opened and os.stat(folder).st_uid == os.geteuid():
            os.chmod(folder, mode | 0o300)
            self._opened[folder] = mode

    @contextmanager
    def writable_folders(self) -> Iterator[None]:
        """Let read-only directories be written to within the block, and restore their modes afterwards."""
        try:
            yield
        finally:
            for folder, mode in self._opened.items():
                with suppress(OSError):
                    os.chmod(folder, mode)


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """Yield the path of a temporary sibling; a leftover there is removed before and after."""
    temporary = sibling_path(place, _TEMPORARY)
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _put(temporary: Path, place: Path) -> None:
    try:
        os.replace(temporary, place)
    except OSError as problem:
        if problem.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise
        try:
            os.rmdir(place)
        except OSError:
            raise DestinationError(
                f"{place} is a folder with files in it, and a file belongs there",
                hint="Move the folder away, then repair it again.",
            ) from None
        os.replace(temporary, place)
