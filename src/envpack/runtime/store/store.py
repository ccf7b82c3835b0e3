"""The shared store: segments unpacked once, of which any number of deployments on this host use the files.

::

    STORE/1/lock                 held shared by who deploys, alone by who removes (`envpack.runtime.store.gc`)
    STORE/1/segments/KK/KEY/N    the stored bytes of the segment's Nth record, read-only; whole, or not there
    STORE/1/segments/KK/KEY-P/N  the same with a prefix written in, of those that are kept so; P: its digest
    STORE/1/work/KEY             a segment being unpacked, under work/KEY.lock; rubbish when nobody holds that
    STORE/1/damaged/KEY          an empty file: somebody has written to a file of that segment
    STORE/1/roots/HASH.json      a destination, and the segments of what was deployed there

KEY is the sha256 of what the paths table says of the segment, every file's digest among it, so a segment that is
there never has to be read from a bundle again, whatever bundle, codec or level it came in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, Sequence

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.fs.paths import make_folders

VERSION = "1"
"""The layout's. Another one would stand beside it, and both could be used."""


_SETTLED = "-"
"""In the keys of files with a prefix written in, and in no other."""


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Store:
    """A store's folder. Use `open_store`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path / VERSION
        self.segments, self.work = self.base / "segments", self.base / "work"
        self.roots, self.damaged = self.base / "roots", self.base / "damaged"

    def folder(self, key: str) -> Path:
        """Where a segment is, or would be."""
        return self.segments / key[:2] / key

    def is_beside(self, destination: Path) -> bool:
        """Whether what is deployed there can be links to files of the store. Raises OSError."""
        folder = destination.parent
        while not folder.exists():
            folder = folder.parent
        return folder.stat().st_dev == self.base.stat().st_dev

    def has(
        self, key: str, records: Sequence[PathRecord], kept: Callable[[PathRecord], bool] | None = None
    ) -> bool:
        """Whether a segment can be used; ``kept``: one of those files only, with a prefix in them. A segment with
        a file that somebody wrote to can't be: that is noted, for gc.

        Time and size tell of every write that was not made to be hidden; the latter are found by ``verify``. With
        a prefix written in a file has another size than its record states, so there it is the time alone.
        """
        folder = os.fsencode(self.folder(key))
        if not os.path.isdir(folder) or (self.damaged / key).exists():
            return False
        prefix = folder + b"/"
        try:
            for index, record in enumerate(records):
                if record.type != "file" or (kept is not None and not kept(record)):
                    continue
                facts = os.stat(prefix + b"%d" % index)
                if facts.st_mtime != record.mtime or facts.st_mode & 0o7222:
                    break
                if facts.st_size != record.size and kept is None:
                    break
            else:
                return True
        except FileNotFoundError:
            pass
        self.note_damage(key)
        return False

    def is_damaged(self, key: str) -> bool:
        return (self.damaged / key).exists()

    def note_damage(self, key: str) -> None:
        """A segment that is not to be used any more, until gc has removed it."""
        with suppress(FileExistsError):
            os.close(os.open(self.damaged / key, _NEW, 0o644))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this is held, nothing is removed from the store; a gc at work is waited for."""
        with self._flock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While this is held, nobody deploys from the store; those who do are waited for."""
        with self._flock(fcntl.LOCK_EX):
            yield

    def is_in_use(self) -> bool:
        """Whether `alone` would have to wait, now."""
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
        return DestinationError(f"can't lock the store {self.path}: {problem.strerror}")

    def _lock_file(self) -> int:
        try:
            return os.open(self.base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as problem:
            raise self._cant_lock(problem) from None

    def register(self, destination: Path, manifest_sha256: str, keys: Iterable[str]) -> None:
        """Notes, before any file is used, that the deployment of this manifest at ``destination`` uses these
        segments; what it notes of others there stays. For one process at a time for each destination. Raises
        OSError."""
        known = self.root(self.root_file(destination))
        manifests = known[1] if known is not None else {}
        wanted = sorted(keys)
        if manifests.get(manifest_sha256) != wanted:
            self.write_root(destination, {**manifests, manifest_sha256: wanted})

    def root_file(self, destination: Path) -> Path:
        return self.roots / f"{hashlib.sha256(os.fsencode(destination)).hexdigest()}.json"

    def root(self, file: Path) -> tuple[str, dict[str, list[str]]] | None:
        """A destination, and by manifest the keys of its segments; None for what is no such file."""
        try:
            document = json.loads(file.read_bytes())
            manifests = {str(digest): [str(key) for key in keys] for digest, keys in document["manifests"].items()}
            return str(document["path"]), manifests
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write_root(self, destination: Path, manifests: Mapping[str, list[str]]) -> None:
        document = {"path": str(destination), "manifests": dict(manifests)}
        replace_file(self.root_file(destination), json.dumps(document).encode())


def open_store(path: Path, destination: Path | None = None) -> Store:
    """The store at ``path``, made when nothing is there or an empty folder.

    Raises DestinationError when something else is there, when it can't be written to, when it and ``destination``
    lie in one another, and for a folder that others could put files into that would then run as this user.
    """
    path = Path(os.path.realpath(os.path.expanduser(path)))
    store = Store(path)
    if destination is not None and (path in (destination, *destination.parents) or destination in path.parents):
        raise DestinationError(f"the store {path} and the destination {destination} can't lie in one another")
    try:
        if path.is_dir() and not store.base.is_dir() and any(path.iterdir()):
            raise DestinationError(
                f"{path} is not empty, and no store", hint="Give a folder of its own to the store."
            )
        make_folders(path)
        for folder in (store.base, store.segments, store.work, store.roots, store.damaged):
            folder.mkdir(exist_ok=True)
        for folder in (path, store.base):
            facts = folder.stat()
            if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & stat.S_IWOTH:
                raise DestinationError(
                    f"others may write to the store {folder}, and what they put there would run as you",
                    hint="Use a store of your own, or one of root's: ENVPACK_STORE, or --store.",
                )
    except OSError as problem:
        raise DestinationError(
            f"can't use the store {path}: {problem.strerror}: {problem.filename}",
            hint="Choose a folder you may write to: ENVPACK_STORE, or --store.",
        ) from None
    return store


def follow(store: str, former: Path, destination: Path) -> None:
    """Notes that what was deployed at ``former``, with this store, is at ``destination`` now. Where that can't be
    noted, the deployment only shares its files no longer once gc has run."""
    found = Store(Path(store))
    with suppress(OSError, DestinationError), found.in_use():
        known = found.root(found.root_file(former))
        if known is not None:
            there = found.root(found.root_file(destination))
            # the files with the former place in them were written anew
            followed = {digest: [key for key in keys if _SETTLED not in key] for digest, keys in known[1].items()}
            found.write_root(destination, {**(there[1] if there is not None else {}), **followed})


def settled_key(key: str, prefix: bytes) -> str:
    """The key of a segment's files with ``prefix`` written in."""
    return f"{key}{_SETTLED}{hashlib.sha256(prefix).hexdigest()[:32]}"
