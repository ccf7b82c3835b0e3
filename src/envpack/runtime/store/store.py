"""The shared content-addressed store: segments unpacked once, for any number of deployments on this host.

::

    STORE/1/lock                 locked shared by deployments, exclusively by gc (`envpack.runtime.store.gc`)
    STORE/1/segments/KK/KEY/N    the stored bytes of the segment's Nth record, read-only; all files or none
    STORE/1/work/KEY             a segment being unpacked, under work/KEY.lock; to remove when that is not locked
    STORE/1/damaged/KEY          an empty file: a file of that segment was written to
    STORE/1/roots/HASH.json      a destination, and the segments of what was deployed there

KEY is the sha256 of the segment's part of the paths table, which has the digest of every file. A segment that is
in the store therefore never has to be read from a bundle again, whatever bundle, codec or level it came in.

Earlier versions also stored files with a prefix written in, as segments with keys of the form KEY-P. They are not
used any more, and gc removes them like other segments.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence

from envpack.runtime.deployment.parents import require_safe_parents
from envpack.runtime.errors import DestinationError, failed_path
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.io import CREATE, LOCK, opened, read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.lock import NO_LOCKS
from envpack.runtime.fs.paths import check_links, make_folders
from envpack.runtime.fs.writers import other_writer
from envpack.runtime.relocation.files import stored_digest

FOLDER_MODE = 0o755
"""Permission bits of folders in a store, less the umask. Under the umask 000, too, only the owner may write."""

VERSION = "1"
"""The version of the layout. Another version would get its own folder beside it, and both could be used."""


class Store:
    """A store in the folder ``path``. `open_store` creates and checks the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path / VERSION
        self.segments, self.work = self.base / "segments", self.base / "work"
        self.roots, self.damaged = self.base / "roots", self.base / "damaged"

    def folder(self, key: str) -> Path:
        """Return the folder of a segment, whether it exists or not."""
        return self.segments / key[:2] / key

    def has(self, key: str, records: Sequence[PathRecord]) -> bool:
        """Return whether a segment is in the store and none of its files was written to.

        A segment with a file that was written to is marked as damaged, for gc. Time and size show every write that
        was not made to be hidden; ``verify`` finds the others.

        Args:
            key: The key of the segment.
            records: The records of the segment.

        Raises:
            DestinationError: Others may write to its folders.
            OSError: The store can't be read, or the segment not marked.
        """
        folder = os.fsencode(self.folder(key))
        try:
            self.require_trusted(self.folder(key).parent)
            self.require_trusted(self.folder(key))
        except FileNotFoundError:
            return False
        if (self.damaged / key).exists():
            return False
        prefix = folder + b"/"
        try:
            for index, record in enumerate(records):
                if record.type != "file":
                    continue
                facts = os.lstat(prefix + b"%d" % index)
                same = (facts.st_mtime, facts.st_size) == (record.mtime, record.size)
                if not same or facts.st_mode & 0o7222 or not stat.S_ISREG(facts.st_mode):
                    break
                if facts.st_uid not in (0, os.geteuid()):
                    break  # chown of a deployment gives the shared file away
            else:
                return True
        except FileNotFoundError:
            pass
        self.mark_damaged(key)
        return False

    def require_trusted(self, folder: Path) -> None:
        """Check that only root or this user may write to a folder of the store; see `other_writer` for groups.

        Raises:
            DestinationError: Others may, or it is no folder.
            OSError: There is nothing, or it can't be read.
        """
        facts = os.lstat(folder)
        if not stat.S_ISDIR(facts.st_mode):
            raise DestinationError(f"{folder} of the store is not a directory")
        writer = other_writer(folder, (0, os.geteuid()))
        if writer:
            raise DestinationError(
                f"{writer} can write to the store {folder}, and so replace programs in deployments that share it",
                hint="Use a store that belongs to you or to root, and that only its owner can write to "
                "(chmod -R go-w): --store or ENVPACK_STORE.",
            )

    def damaged_keys(self) -> set[str]:
        """Return the keys of the segments that are marked as damaged. Raises OSError."""
        return set(os.listdir(self.damaged))

    def is_changed(self, key: str, index: int, record: PathRecord) -> bool:
        """Return whether a file of the store has other content than its record states; False when there is none.

        Args:
            key: the key of the segment.
            index: the number of the file in the segment.
            record: the record of the file.

        Raises:
            OSError: the file can't be read.
        """
        try:
            with opened(os.fsencode(self.folder(key) / str(index))) as fd:
                return stored_digest(fd, None, record.size, None) != record.sha256
        except FileNotFoundError:
            return False

    def mark_damaged(self, key: str) -> None:
        """Mark a segment as damaged: it is not used any more until gc has removed it. Raises OSError."""
        with suppress(FileExistsError):
            os.close(os.open(self.damaged / key, CREATE, 0o644))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the store's lock shared: nothing is removed meanwhile. Waits for a gc that is running.

        Raises DestinationError when the store can't be locked.
        """
        with self._flock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store's lock exclusively: no deployment uses the store meanwhile. Waits for those that do.

        Raises DestinationError when the store can't be locked.
        """
        with self._flock(fcntl.LOCK_EX):
            yield

    def is_in_use(self) -> bool:
        """Return whether `exclusive` would wait now; raise DestinationError when the store can't be locked."""
        fd = self._lock_file()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as problem:
            raise self._cant_lock(problem) from None
        finally:
            os.close(fd)
        return False

    @contextmanager
    def _flock(self, how: int) -> Iterator[None]:
        fd = self._lock_file()
        try:
            try:
                fcntl.flock(fd, how)
            except OSError as problem:
                raise self._cant_lock(problem) from None
            yield
        finally:
            os.close(fd)

    def _cant_lock(self, problem: OSError) -> DestinationError:
        if problem.errno in NO_LOCKS:
            return DestinationError(
                f"the filesystem of the store {self.path} has no file locks, which a store needs",
                hint="Use a store on another filesystem, such as a local disk: --store or ENVPACK_STORE.",
            )
        return DestinationError(f"can't lock the store {self.path}: {problem.strerror}")

    def _lock_file(self) -> int:
        try:
            return os.open(self.base / "lock", LOCK, 0o644)
        except OSError as problem:
            raise self._cant_lock(problem) from None

    def register(self, destination: Path, manifest_sha256: str, keys: Iterable[str]) -> None:
        """Record, before any file is used, that a deployment uses segments of the store.

        Records of other manifests at the same destination stay. Only one process at a time may call this for a
        destination.

        Args:
            destination: The destination of the deployment.
            manifest_sha256: The digest of its manifest.
            keys: The keys of the segments.

        Raises:
            OSError: The record can't be read or written.
        """
        known = self.root(self.root_file(destination))
        manifests = known[1] if known is not None else {}
        listed = sorted(keys)
        if manifests.get(manifest_sha256) != listed:
            self.write_root(destination, {**manifests, manifest_sha256: listed})

    def root_file(self, destination: Path) -> Path:
        return self.roots / f"{hashlib.sha256(os.fsencode(destination)).hexdigest()}.json"

    def root(self, file: Path) -> tuple[str, dict[str, list[str]]] | None:
        """Return a destination and, by manifest digest, the keys of its segments, from a file in ``roots/``.

        Returns None when the file is missing or has other content. Raises OSError when it can't be read.
        """
        try:
            document = json_value(read_file(file))
            manifests = {str(digest): [str(key) for key in keys] for digest, keys in document["manifests"].items()}
            return str(document["path"]), manifests
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write_root(self, destination: Path, manifests: Mapping[str, list[str]]) -> None:
        document = {"path": str(destination), "manifests": dict(manifests)}
        replace_own_file(self.root_file(destination), json.dumps(document).encode(), 0o644)


def open_store(path: Path, destination: Path | None = None, *, any_parent: bool = False) -> Store:
    """Return the store at ``path``; create it when nothing or an empty folder is there.

    Raises DestinationError when something else is there, when the store can't be written to, when the store and
    ``destination`` lie in one another, and when other users could put files into the store, which would then run
    as this user; for root also, without ``any_parent``, when they could replace the store itself.
    """
    given = Path(os.path.expanduser(path))
    check_links(given)
    path = Path(os.path.realpath(given))
    store = Store(path)
    check_links(store.base)
    require_safe_parents(path.parent, allowed=any_parent)
    if destination is not None and (path in (destination, *destination.parents) or destination in path.parents):
        raise DestinationError(f"the store {path} and the destination {destination} must not contain each other")
    try:
        if path.is_dir() and not store.base.is_dir() and any(path.iterdir()):
            raise DestinationError(
                f"{path} is not empty and is not a store", hint="Use a separate directory for the store."
            )
        make_folders(path, FOLDER_MODE)
        store.require_trusted(path)
        for folder in (store.base, store.segments, store.work, store.roots, store.damaged):
            with suppress(FileExistsError):
                folder.mkdir(FOLDER_MODE)
            store.require_trusted(folder)
    except OSError as problem:
        raise DestinationError(
            f"can't use the store {path}: {problem.strerror}: {failed_path(problem, path)}",
            hint="Choose a directory that you can write to: --store or ENVPACK_STORE.",
        ) from None
    return store


def follow(store: str, previous: Path, destination: Path) -> None:
    """Record that a deployment which uses ``store`` was moved from ``previous`` to ``destination``.

    Never fails: where this can't be recorded, the deployment works all the same, but shares no files with the
    store any more after the next gc.

    Args:
        store: The path of the store.
        previous: The destination that the deployment was moved from.
        destination: The destination that it is at now.
    """
    found = Store(Path(store))
    with suppress(OSError, DestinationError), found.in_use():
        known = found.root(found.root_file(previous))
        if known is not None:
            there = found.root(found.root_file(destination))
            found.write_root(destination, {**(there[1] if there is not None else {}), **known[1]})
