"""A locked deployment: the steps that change its destination and its state directory."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from envpack.runtime.deployment.record import read_record, update_record
from envpack.runtime.deployment.state import COPY_JOURNAL, LOCK, PLACE_JOURNAL, TRASH, DeploymentState
from envpack.runtime.deployment.swap import swap, writable_dirs
from envpack.runtime.errors import failed_path
from envpack.runtime.format.layout import LOCK_PATH, OWN_FOLDER
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.io import READ_FOLDER, READ_UNTRUSTED, keep_owner, open_regular, other_owner
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import exists, remove_tree
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import installed_prefix


class LockedDeployment(DeploymentState):
    """The state of a deployment while its lock is held; `envpack.runtime.deployment.exclusive` makes one.

    Args:
        state: The state of the same deployment.
        reporter: Receives warnings.
    """

    def __init__(self, state: DeploymentState, reporter: Reporter) -> None:
        self.path, self.given, self.state_dir, self.reporter = state.path, state.given, state.state_dir, reporter

    # --- previous generations ---

    def keep(self, path: Path) -> None:
        """Rename a tree to its generation in the state directory, or to the next one if that name is taken.

        Raises OSError.
        """
        record = read_record(path)
        generation = record.generation if record is not None else 0
        if exists(self.generation_path(generation)):
            generation = self.next_generation()
            if record is not None:
                update_record(path, record, generation=generation)
        self.add_generation(path, generation)

    def add_generation(self, path: Path, generation: int) -> None:
        """Rename the tree at ``path`` to a previous generation in the state directory. Raises OSError."""
        with suppress(OSError):
            # previous generations are as readable as a deployment; what lies beside them is this user's alone
            tree = os.stat(path)
            self._give_state_dir(tree)
            os.chmod(self.state_dir, tree.st_mode & 0o755 | stat.S_IRWXU)
        with writable_dirs(path):
            os.rename(path, self.generation_path(generation))

    def _give_state_dir(self, tree: os.stat_result) -> None:
        """Give a state directory that root has made to the owner of its trees, so that they can use it later.

        Only where the folder that it is in is theirs, too: `exclusive` trusts nobody else with it. Raises OSError.
        """
        owner = other_owner(self.state_dir.parent)
        if owner is None or owner.st_uid != tree.st_uid:
            return
        folder = os.open(self.state_dir, READ_FOLDER)
        try:
            facts = os.fstat(folder)
            if facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
                lock = open_regular(LOCK, READ_UNTRUSTED, dir_fd=folder)
                try:
                    keep_owner(lock, tree)
                finally:
                    os.close(lock)
                keep_owner(folder, tree)
        finally:
            os.close(folder)

    def adopt_kept(self, source: DeploymentState) -> None:
        """Move the previous generations of ``source`` here, after its deployment was moved here.

        Call it while both are locked, on one filesystem. A generation that exists here already is not moved.
        Raises OSError.
        """
        for kept in source.kept():
            if not exists(self.generation_path(kept.record.generation)):
                self.add_generation(kept.path, kept.record.generation)

    # --- removal ---

    def move_to_trash(self, path: Path) -> None:
        """Move a tree to the trash by one rename, then remove it.

        Warns of what can't be removed; the next command tries it again. Raises OSError when the tree can't be
        renamed.
        """
        number = 1
        while exists(self.state_dir / f"{TRASH}{number}"):
            number += 1
        trash = self.state_dir / f"{TRASH}{number}"

        def remove() -> None:
            if exists(path):
                with writable_dirs(path):
                    os.rename(path, trash)
            if exists(trash):
                self.delete(trash)

        retry_on_interrupt(remove)

    def delete(self, path: Path) -> None:
        """Remove a tree that nothing uses; warn of what can't be removed."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                remove_tree(path)

        try:
            retry_on_interrupt(remove)  # there may be no later command here that finishes it
        except OSError as problem:
            self.reporter.warn(f"{path} can't be removed: {failed_path(problem, path)}: {problem.strerror}")

    def cleanup(self) -> None:
        """Remove the state directory when nothing is left in it; never fails."""
        with suppress(OSError):
            retry_on_interrupt(self._remove_state_dir)

    def _remove_state_dir(self) -> None:
        left = set(os.listdir(self.state_dir))
        if COPY_JOURNAL in left and not exists(self.path):
            os.unlink(self.state_dir / COPY_JOURNAL)
        if self.in_place and PLACE_JOURNAL in left and left <= {LOCK, PLACE_JOURNAL}:
            os.unlink(self.state_dir / PLACE_JOURNAL)
            left.remove(PLACE_JOURNAL)
        if left <= {LOCK, COPY_JOURNAL}:
            if LOCK in left:
                os.unlink(self.state_dir / LOCK)
            os.rmdir(self.state_dir)

    # --- the current deployment ---

    def swap(self, inside: Path, *, onward: bool = False) -> None:
        """Exchange the destination with a tree in the state directory, and sync.

        Activation is locked meanwhile, so that it can't rewrite the prefix in the deployment.

        Args:
            inside: The path of the tree in the state directory.
            onward: See `envpack.runtime.deployment.swap.swap`.

        Raises:
            OSError: The two can't be exchanged, or not synced.
        """
        with self.activation_locked():
            swap(self.path, inside, onward=onward)
        if exists(self.state_dir / COPY_JOURNAL):
            os.unlink(self.state_dir / COPY_JOURNAL)  # it does not describe the new deployment
        self.sync()

    @contextmanager
    def activation_locked(self) -> Iterator[None]:
        """Hold the lock under which activation writes the prefix into the current deployment.

        Waits while an activation holds it. A deployment that has its prefix already needs no lock.
        """
        if self.is_named(installed_prefix(self.path)):
            yield
        else:
            with locked(self.path / LOCK_PATH, wait=True):
                yield

    def rename_in(self, inside: Path) -> None:
        """Rename the tree at ``inside`` to the destination, which is missing or an empty folder, and sync.

        Raises OSError.
        """
        if self.in_place:
            self._move_into_place(inside)
        else:
            with writable_dirs(inside):
                os.rename(inside, self.path)
        self.sync()

    def _move_into_place(self, inside: Path) -> None:
        names = sorted(os.listdir(inside), key=lambda name: name == OWN_FOLDER)  # the record is in the last one
        replace_own_file(self.state_dir / PLACE_JOURNAL, json.dumps(names).encode())
        for name in names:
            with writable_dirs(inside / name):
                os.rename(inside / name, self.path / name)
        os.rmdir(inside)

    def remove_in_place(self) -> None:
        """Remove the deployment from a destination in place, which stays. Raises OSError."""
        names = sorted(set(os.listdir(self.path)) - {self.state_dir.name})
        replace_own_file(self.state_dir / PLACE_JOURNAL, json.dumps(names).encode())
        self.empty_place()

    def empty_place(self) -> None:
        """Remove what the journal of a destination in place names, the record first. Raises OSError."""
        trash = self.state_dir / f"{TRASH}0"
        for name in sorted(self.placed(), key=lambda name: name != OWN_FOLDER):
            if exists(self.path / name):
                trash.mkdir(exist_ok=True)
                with writable_dirs(self.path / name):
                    os.rename(self.path / name, trash / name)
        self.delete(trash)
        with suppress(FileNotFoundError):
            os.unlink(self.state_dir / PLACE_JOURNAL)

    def sync(self) -> None:
        """Sync the parent folder and the state directory, so that renames between them survive a power cut."""
        sync_folder(self.path if self.in_place else self.path.parent)
        sync_folder(self.state_dir)
