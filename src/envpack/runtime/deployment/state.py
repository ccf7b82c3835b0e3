"""Where a deployment stands, and the folder beside it: what is being made, what is kept, what is on its way out.

Beside ``NAME`` there is ``.NAME.envpack``, on the same filesystem, only while somebody is at work or previous
deployments are kept::

    lock       held by every command that changes the deployment; the kernel drops it with the process
    new-G      generation G being written: never more than rubbish to anybody else
    next-G     generation G, whole, about to trade places with NAME; afterwards, for an instant, what stood there
    G          a previous deployment that is kept, NAME's path written into its files
    trash-N    on its way out
    switching  where a filesystem can't let two names trade places: what is on its way (deployment.swap)
    aside      and what stood at NAME, meanwhile
    moving     only while a deployment is copied here from another filesystem: from where

Which generation a tree is stands in its own record, so whatever a command was stopped at, the next one sees from
names and records what is what (`recover`): nothing else has to be written down.
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
from envpack.runtime.format.layout import DEPLOYMENT_PATH, SETTLING_PATH
from envpack.runtime.format.layout import LOCK_PATH as SETTLE_LOCK
from envpack.runtime.fs.atomic import temporary_of
from envpack.runtime.fs.interrupt import to_its_end
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import beside, is_folder, is_there, make_folders, remove_empty, remove_tree, umask
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import written_prefix
from envpack.runtime.tree.rewrite_prefix import forget_begun

LOCK = "lock"
MOVING = "moving"
NEW, NEXT = "new-", "next-"
"""Of a generation that is being written, and of one that is whole and about to be there."""

_TRASH = "trash-"


@dataclass(frozen=True)
class Kept:
    """A previous deployment that is there still: its folder and its record."""

    path: Path
    record: Record


class Destination:
    """A destination, existing or not. What changes anything is for within `at_work` only."""

    def __init__(self, destination: Path) -> None:
        given = Path(os.path.abspath(os.path.expanduser(destination)))
        self.final = Path(os.path.realpath(given.parent)) / given.name
        self.side = beside(self.final, "envpack") if self.final.name else self.final
        self.reporter = Reporter()

    # --- looking ---

    def current(self) -> Record | None:
        """What is deployed there; None where nothing is, or something else. Raises OSError when that can't be
        told."""
        return read_record(self.final) if is_folder(self.final) else None

    def kept(self) -> list[Kept]:
        """Previous deployments, the newest first. Raises OSError when that can't be told."""
        found = []
        for path in self._entries():
            if path.name.isdecimal() or path.name.startswith(NEXT):
                record = read_record(path)
                if record is not None and path.name != f"{NEXT}{record.generation}":
                    found.append(Kept(path, record))
        return sorted(found, key=lambda kept: -kept.record.generation)

    def trees(self) -> list[Path]:
        """The folders of the current deployment and of those kept: whatever may still be used."""
        return [*([self.final] if is_folder(self.final) else []), *(kept.path for kept in self.kept())]

    def occupied(self) -> str:
        """Why nothing could be deployed there: something else stands there. Empty when nothing does.

        Raises DestinationError when that can't be told.
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
        """Raises DestinationError where something else stands, or nothing may ever be deployed."""
        check_destination(str(self.final), current_user(), root_home)
        reason = self.occupied()
        if reason:
            raise DestinationError(reason, hint="Choose another destination, or remove it first.")

    def require_known(self) -> None:
        """Raises DestinationError where nothing is deployed, nothing kept, and nothing left of either."""
        reason = self.occupied()
        if not reason and self.current() is None and not is_folder(self.side):
            reason = f"nothing is deployed at {self.final}"
        if reason:
            raise DestinationError(reason, hint="'envpack list' shows what is deployed on this host.")

    def next_generation(self) -> int:
        """One more than any that was ever heard of there."""
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
            return [self.side / name for name in sorted(os.listdir(self.side))]
        except FileNotFoundError:
            return []

    # --- at work ---

    @contextmanager
    def at_work(self, reporter: Reporter, *, wait: bool = False) -> Iterator[None]:
        """Alone here, after putting right whatever a command before was stopped at; tidied up afterwards.

        Raises DestinationError when another process is at work here (with ``wait``, that is waited for), and in
        place of any OSError of the block.
        """
        self.reporter = reporter
        made: list[Path] = []
        entering = False
        try:
            made = make_folders(self.final.parent)
            self._require_own()
            entering = True
            with locked(self.side / LOCK, wait=wait, folder_mode=0o700):
                entering = False
                self._require_own()
                try:
                    self.recover()
                    yield
                finally:
                    self._tidy()
        except BaseException as problem:
            if entering and is_folder(self.side):
                with suppress(OSError, DestinationError), locked(self.side / LOCK, wait=False):
                    self._tidy()
            remove_empty(made)
            if isinstance(problem, OSError):
                raise self._told(problem) from problem
            raise

    def _require_own(self) -> None:
        """Nobody else may exchange what is made here for something of theirs: the folder beside is this user's, or
        belongs to who owns the folder that both lie in, and can do that anyway."""
        if is_there(self.side):
            owner = os.lstat(self.side).st_uid
            if not is_folder(self.side) or owner not in (os.geteuid(), os.stat(self.final.parent).st_uid):
                raise DestinationError(
                    f"{self.side} is not this user's folder, and was left as it is",
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
        """Finishes what was stopped midway, or takes it back, and removes what nobody can use.

        A tree is taken for rubbish only where its name says so. Raises OSError.
        """
        finish_swap(self.final, self.side, self.keep)
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
            elif path in (temporary_of(self.side / name) for name in (SWITCHING, MOVING)):
                os.unlink(path)
        for tree in self.trees():
            if is_there(temporary_of(tree / DEPLOYMENT_PATH)):
                os.unlink(temporary_of(tree / DEPLOYMENT_PATH))
            if is_there(tree / SETTLING_PATH):
                forget_begun(tree)
        if current is None and is_there(self.side / MOVING):
            os.unlink(self.side / MOVING)
        if current is not None and is_there(self.side / str(current.generation)):
            current = note(self.final, current, generation=self.next_generation())  # put here by hand
        if current is not None and current.destination not in ("", str(self.final)):
            self._welcome(current)

    def _welcome(self, current: Record) -> None:
        """A deployment that was moved here by hand, or by a command that was stopped, gets what is kept of it."""
        former = Destination(Path(current.destination))
        if is_folder(former.side) and former.current() is None:
            try:
                with locked(former.side / LOCK, wait=False):
                    self.take_along(former)
                    former._tidy()
            except DestinationError:
                return  # somebody is at work there, such as the very command that moves it
        note(self.final, current, destination=str(self.final))

    def keep(self, path: Path) -> None:
        """Gives a previous deployment the name of its generation."""
        record = read_record(path)
        generation = record.generation if record is not None else 0
        if is_there(self.side / str(generation)):
            generation = self.next_generation()
            if record is not None:
                note(path, record, generation=generation)
        self.receive(path, generation)

    def discard(self, path: Path) -> None:
        """Takes away a tree, at once, and then removes it; what can't be removed is told, and tried again
        later."""
        number = 1
        while is_there(self.side / f"{_TRASH}{number}"):
            number += 1
        trash = self.side / f"{_TRASH}{number}"

        def leave() -> None:
            if is_there(path):
                with movable(path):
                    os.rename(path, trash)
            if is_there(trash):
                self._delete(trash)

        to_its_end(leave)

    def _delete(self, path: Path) -> None:
        def remove() -> None:
            with suppress(FileNotFoundError):
                remove_tree(path)

        try:
            to_its_end(remove)  # nobody may come back to this place to finish it
        except OSError as problem:
            self.reporter.warn(f"{path} can't be removed: {problem.filename or path}: {problem.strerror}")

    def _tidy(self) -> None:
        """Takes the folder beside away where nothing is left in it; never fails."""
        with suppress(OSError):
            to_its_end(self._remove_side)

    def _remove_side(self) -> None:
        left = set(os.listdir(self.side))
        if MOVING in left and not is_there(self.final):
            os.unlink(self.side / MOVING)
        if left <= {LOCK, MOVING}:
            if LOCK in left:
                os.unlink(self.side / LOCK)
            os.rmdir(self.side)

    # --- switching ---

    def swap(self, inside: Path, *, onward: bool = False) -> None:
        """What stands at the destination and what stands at ``inside``, a path beside, trade places, for good;
        ``onward``: see `envpack.runtime.deployment.swap.swap`.

        Nobody's activation writes the prefix into either meanwhile. Raises OSError.
        """
        with self.undisturbed():
            swap(self.final, inside, onward=onward)
        if is_there(self.side / MOVING):
            os.unlink(self.side / MOVING)  # says nothing of what is here now
        self.sync()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """While nobody's activation writes the prefix into what is deployed here; one that does is waited for."""
        if written_prefix(self.final) == str(self.final):
            yield
        else:
            with locked(self.final / SETTLE_LOCK, wait=True):
                yield

    def take_along(self, former: Destination) -> None:
        """What is kept of the deployment that has come here from ``former`` comes here too. Raises OSError.

        For within `at_work` of both; on another filesystem it stays.
        """
        for kept in former.kept():
            if not is_there(self.side / str(kept.record.generation)):
                self.receive(kept.path, kept.record.generation)

    def receive(self, path: Path, generation: int) -> None:
        """The tree at ``path`` is from now on kept here, as that generation. Raises OSError."""
        with suppress(OSError):
            os.chmod(self.side, 0o777 & ~umask())  # others may look at what is kept, as at what is deployed
        with movable(path):
            os.rename(path, self.side / str(generation))

    def appear(self, inside: Path) -> None:
        """What stands at ``inside`` moves to the destination, where nothing is, or an empty folder. Raises
        OSError."""
        with movable(inside):
            os.rename(inside, self.final)
        self.sync()

    def sync(self) -> None:
        """Renames between the two folders last from here on."""
        sync_folder(self.final.parent)
        sync_folder(self.side)
