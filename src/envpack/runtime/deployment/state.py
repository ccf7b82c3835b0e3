"""A destination and its state directory: staging, previous generations and trash.

The state directory of ``NAME`` is ``.NAME.envpack``, beside it on the same filesystem. It exists only while a
command changes the deployment or previous generations exist::

    lock       held by every command that changes the deployment; the kernel releases it with the process
    new-G      staging: generation G being written, which no other process uses
    next-G     generation G, whole, about to be exchanged with NAME; after that, for an instant, the former NAME
    G          a previous generation, with NAME's path written into its files
    trash-N    trash: a tree that is being removed
    switching  journal of an exchange, where the filesystem can't exchange two names (deployment.swap)
    aside      the former NAME during such an exchange
    moving     only while a deployment is copied here from another filesystem: where it came from

The generation of a tree is in its own record. Therefore, wherever a command was stopped, the names and records are
enough for the next command to recover (`Destination.recover`); nothing else has to be written.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from envpack.runtime.deployment.protected_paths import check_destination, current_user
from envpack.runtime.deployment.record import Record, note, read_record
from envpack.runtime.deployment.swap import SWITCHING, finish_swap, movable, swap
from envpack.runtime.errors import DestinationError
from envpack.runtime.format.layout import DEPLOYMENT_PATH, JOURNAL_PATH
from envpack.runtime.format.layout import LOCK_PATH as SETTLE_LOCK
from envpack.runtime.fs.atomic import temporary_of
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import (
    is_folder,
    is_there,
    make_folders,
    remove_empty,
    remove_tree,
    sibling_path,
    umask,
)
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import installed_prefix
from envpack.runtime.tree.rewrite_prefix import forget_begun

LOCK = "lock"
MOVING = "moving"
NEW, NEXT = "new-", "next-"
"""The start of the name of a generation that is being written (staging), and of one that is whole and ready."""

_TRASH = "trash-"


@dataclass(frozen=True)
class Kept:
    """A previous generation that still exists: its folder and its record."""

    path: Path
    record: Record


class Destination:
    """A destination, whether it exists or not, and its state directory ``.NAME.envpack``.

    Methods that change something may be called only within `exclusive`.

    Attributes:
        final: The path of the destination; links in its parents are resolved.
        state_dir: The path of the state directory.
        reporter: Receives warnings; the one given to `exclusive`.
    """

    def __init__(self, destination: Path) -> None:
        given = Path(os.path.abspath(os.path.expanduser(destination)))
        self.final = Path(os.path.realpath(given.parent)) / given.name
        self.state_dir = sibling_path(self.final, "envpack") if self.final.name else self.final
        self.reporter = Reporter()

    # --- reading ---

    def current(self) -> Record | None:
        """Return the record of the current deployment; None where there is none, or something else.

        Raises OSError when it can't be read.
        """
        return read_record(self.final) if is_folder(self.final) else None

    def kept(self) -> list[Kept]:
        """Return the previous generations, the newest first; raise OSError when they can't be read."""
        found = []
        for path in self._entries():
            if path.name.isdecimal() or path.name.startswith(NEXT):
                record = read_record(path)
                if record is not None and path.name != f"{NEXT}{record.generation}":
                    found.append(Kept(path, record))
        return sorted(found, key=lambda kept: -kept.record.generation)

    def trees(self) -> list[Path]:
        """Return the folders of the current deployment and the previous generations: all that may be in use.

        Raises OSError when they can't be read.
        """
        return [*([self.final] if is_folder(self.final) else []), *(kept.path for kept in self.kept())]

    def occupied(self) -> str:
        """Return why nothing can be deployed here, such as a file at the path; "" when a deployment is possible.

        Raises DestinationError when the path can't be read.
        """
        final = self.final
        if not final.name:
            return f"{final} can't be a destination"
        if final.is_symlink():
            return f"{final} exists and is a link, to {os.readlink(final)}"
        try:
            if not is_there(final):
                return ""
            if not is_folder(final):
                return f"{final} exists and is no folder"
            if os.stat(final).st_dev != os.stat(final.parent).st_dev:
                return f"{final} is a filesystem of its own, and what stands there can't be switched at once"
            if self.current() is None and os.listdir(final):
                return f"{final} exists, is not empty and no deployment; it was left as it is"
        except OSError as problem:
            raise DestinationError(f"{problem.filename or final}: {problem.strerror}") from None
        return ""

    def require_free_or_deployed(self, root_home: bool = False) -> None:
        """Raise DestinationError when the path is protected, or occupied by something else than a deployment."""
        check_destination(str(self.final), current_user(), root_home)
        reason = self.occupied()
        if reason:
            raise DestinationError(reason, hint="Choose another destination, or remove it first.")

    def require_known(self) -> None:
        """Raise DestinationError when there is neither a deployment nor a state directory."""
        reason = self.occupied()
        if not reason and self.current() is None and not is_folder(self.state_dir):
            reason = f"nothing is deployed at {self.final}"
        if reason:
            raise DestinationError(reason, hint="'envpack list' shows what is deployed on this host.")

    def next_generation(self) -> int:
        """Return the next generation: one more than any in records, their histories, and the state directory."""
        records = [kept.record for kept in self.kept()]
        current = self.current()
        if current is not None:
            records.append(current)
        known = [record.generation for record in records]
        known += [entry.generation for record in records for entry in record.history]
        known += [int(path.name) for path in self._entries() if path.name.isdecimal()]
        return max(known, default=0) + 1

    def _entries(self) -> list[Path]:
        try:
            return [self.state_dir / name for name in sorted(os.listdir(self.state_dir))]
        except FileNotFoundError:
            return []

    # --- exclusive access ---

    @contextmanager
    def exclusive(self, reporter: Reporter, *, wait: bool = False) -> Iterator[None]:
        """Hold the destination's lock: recover what a stopped command has left, run the block, then clean up.

        Args:
            reporter: Receives warnings.
            wait: Wait while another process holds the lock.

        Raises:
            DestinationError: Another process holds the lock (without ``wait``), the state directory belongs to
                another user, or the block raised an OSError.
        """
        self.reporter = reporter
        made: list[Path] = []
        entering = False
        try:
            made = make_folders(self.final.parent)
            self._require_own()
            entering = True
            with locked(self.state_dir / LOCK, wait=wait, folder_mode=0o700):
                entering = False
                self._require_own()
                try:
                    self.recover()
                    yield
                finally:
                    self._tidy()
        except BaseException as problem:
            if entering and is_folder(self.state_dir):
                with suppress(OSError, DestinationError), locked(self.state_dir / LOCK, wait=False):
                    self._tidy()
            remove_empty(made)
            if isinstance(problem, OSError):
                raise self._told(problem) from problem
            raise

    def _require_own(self) -> None:
        """Raise DestinationError when another user could replace what is written to the state directory.

        The state directory must belong to this user, or to the owner of its parent folder, which could replace it
        anyway.
        """
        if is_there(self.state_dir):
            owner = os.lstat(self.state_dir).st_uid
            if not is_folder(self.state_dir) or owner not in (os.geteuid(), os.stat(self.final.parent).st_uid):
                raise DestinationError(
                    f"{self.state_dir} is not this user's folder, and was left as it is",
                    hint="Deploy as the user who deployed there before, or remove it.",
                )

    def _told(self, problem: OSError) -> DestinationError:
        if problem.errno == errno.EXDEV:
            return DestinationError(
                f"{self.final} can't be renamed: it lies in a lower layer of this filesystem, "
                "as a container image's files do",
                hint="Deploy to another place, or in the step that makes the layer.",
            )
        return DestinationError(f"can't write to {self.final.parent}: {problem.strerror}")

    def recover(self) -> None:
        """Finish or roll back what a stopped command has left, and remove what is of no use.

        A tree is removed only when its name says that it is staging, trash, or ready but not switched to. Raises
        OSError.
        """
        finish_swap(self.final, self.state_dir, self.keep)
        current = self.current()
        for path in self._entries():
            if path.name.startswith((NEW, _TRASH)):
                self._delete(path)
            elif path.name.startswith(NEXT):
                record = read_record(path)
                at_final = current is not None and path.name == f"{NEXT}{current.generation}"
                if at_final or (record is not None and path.name != f"{NEXT}{record.generation}"):
                    self.keep(path)
                else:
                    self.discard(path)
            elif path.name.isdecimal():
                record = read_record(path)
                if record is not None and path.name != str(record.generation):
                    self.keep(path)
            elif path in (temporary_of(self.state_dir / name) for name in (SWITCHING, MOVING)):
                os.unlink(path)
        for tree in self.trees():
            if is_there(temporary_of(tree / DEPLOYMENT_PATH)):
                os.unlink(temporary_of(tree / DEPLOYMENT_PATH))
            if is_there(tree / JOURNAL_PATH):
                forget_begun(tree)
        if current is None and is_there(self.state_dir / MOVING):
            os.unlink(self.state_dir / MOVING)
        if current is not None and is_there(self.state_dir / str(current.generation)):
            current = note(self.final, current, generation=self.next_generation())  # moved here by hand
        if current is not None and current.destination not in ("", str(self.final)):
            self._welcome(current)

    def _welcome(self, current: Record) -> None:
        """Adopt the previous generations of a deployment that was moved here by hand or by a stopped command."""
        former = Destination(Path(current.destination))
        if is_folder(former.state_dir) and former.current() is None:
            try:
                with locked(former.state_dir / LOCK, wait=False):
                    self.adopt_kept(former)
                    former._tidy()
            except DestinationError:
                return  # another process holds its lock, such as the command that moves it
        note(self.final, current, destination=str(self.final))

    def keep(self, path: Path) -> None:
        """Rename a tree to its generation in the state directory, or to the next one if that name is taken.

        Raises OSError.
        """
        record = read_record(path)
        generation = record.generation if record is not None else 0
        if is_there(self.state_dir / str(generation)):
            generation = self.next_generation()
            if record is not None:
                note(path, record, generation=generation)
        self.receive(path, generation)

    def discard(self, path: Path) -> None:
        """Move a tree to the trash by one rename, then remove it.

        Warns of what can't be removed; the next command tries it again. Raises OSError when the tree can't be
        renamed.
        """
        number = 1
        while is_there(self.state_dir / f"{_TRASH}{number}"):
            number += 1
        trash = self.state_dir / f"{_TRASH}{number}"

        def leave() -> None:
            if is_there(path):
                with movable(path):
                    os.rename(path, trash)
            if is_there(trash):
                self._delete(trash)

        retry_on_interrupt(leave)

    def _delete(self, path: Path) -> None:
        def remove() -> None:
            with suppress(FileNotFoundError):
                remove_tree(path)

        try:
            retry_on_interrupt(remove)  # there may be no later command here that finishes it
        except OSError as problem:
            self.reporter.warn(f"{path} can't be removed: {problem.filename or path}: {problem.strerror}")

    def _tidy(self) -> None:
        """Remove the state directory when nothing is left in it; never fails."""
        with suppress(OSError):
            retry_on_interrupt(self._remove_state_dir)

    def _remove_state_dir(self) -> None:
        left = set(os.listdir(self.state_dir))
        if MOVING in left and not is_there(self.final):
            os.unlink(self.state_dir / MOVING)
        if left <= {LOCK, MOVING}:
            if LOCK in left:
                os.unlink(self.state_dir / LOCK)
            os.rmdir(self.state_dir)

    # --- switching ---

    def swap(self, inside: Path, *, onward: bool = False) -> None:
        """Exchange the destination with a tree in the state directory, and sync.

        Activation is locked meanwhile, so that it can't rewrite the prefix in the deployment.

        Args:
            inside: The path of the tree in the state directory.
            onward: See `envpack.runtime.deployment.swap.swap`.

        Raises:
            OSError: The two can't be exchanged, or not synced.
        """
        with self.undisturbed():
            swap(self.final, inside, onward=onward)
        if is_there(self.state_dir / MOVING):
            os.unlink(self.state_dir / MOVING)  # it does not describe the new deployment
        self.sync()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Hold the lock under which activation writes the prefix into the current deployment.

        Waits while an activation holds it. A deployment that has its prefix already needs no lock.
        """
        if installed_prefix(self.final) == str(self.final):
            yield
        else:
            with locked(self.final / SETTLE_LOCK, wait=True):
                yield

    def adopt_kept(self, former: Destination) -> None:
        """Move the previous generations of ``former`` here, after its deployment was moved here.

        Call it within `exclusive` of both, on one filesystem. A generation that exists here already is not moved.
        Raises OSError.
        """
        for kept in former.kept():
            if not is_there(self.state_dir / str(kept.record.generation)):
                self.receive(kept.path, kept.record.generation)

    def receive(self, path: Path, generation: int) -> None:
        """Rename the tree at ``path`` to a previous generation in the state directory. Raises OSError."""
        with suppress(OSError):
            os.chmod(self.state_dir, 0o777 & ~umask())  # previous generations are as readable as a deployment
        with movable(path):
            os.rename(path, self.state_dir / str(generation))

    def appear(self, inside: Path) -> None:
        """Rename the tree at ``inside`` to the destination, which is missing or an empty folder, and sync.

        Raises OSError.
        """
        with movable(inside):
            os.rename(inside, self.final)
        self.sync()

    def sync(self) -> None:
        """Sync the parent folder and the state directory, so that renames between them survive a power cut."""
        sync_folder(self.final.parent)
        sync_folder(self.state_dir)
