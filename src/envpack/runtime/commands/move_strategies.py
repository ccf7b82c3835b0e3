"""The ways to move a deployment: a rename, a copy to another filesystem, or the rest of a move that was begun.

`apply` brings the deployment to the new path, `finish` brings what belongs to it, once its prefix is rewritten,
and `undo` makes both paths as they were. `undo` inspects what is on the disk, so it can follow an error anywhere.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import UNRECORDED, Record, has_record, update_record, write_record
from envpack.runtime.deployment.recovery import recover
from envpack.runtime.deployment.registry import register, unregister
from envpack.runtime.deployment.state import COPY_JOURNAL, STAGING, DeploymentState
from envpack.runtime.deployment.transaction import open_transaction
from envpack.runtime.errors import EnvpackError
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.copy import copy_tree
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.mounts import require_no_mounts
from envpack.runtime.fs.paths import ReplacedFolder, exists, is_folder
from envpack.runtime.fs.sync import sync_filesystem
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix


class MoveStrategy:
    """A way to move a deployment, by default one for a deployment that is at the new path already.

    Args:
        source: The old path of the deployment.
        target: The new path.
        reporter: Receives progress and warnings.
    """

    copied = False

    def __init__(self, source: LockedDeployment, target: LockedDeployment, reporter: Reporter) -> None:
        self.source, self.target, self.reporter = source, target, reporter

    def apply(self) -> bool:
        """Bring the deployment to the new path.

        Returns False, with nothing changed, where that is on another filesystem. Raises OSError or EnvpackError.
        """
        return True

    def finish(self) -> None:
        """Bring the previous generations to the new path, and sync; raise OSError on failure."""
        self.target.adopt_kept(self.source)
        self.target.sync()

    def undo(self) -> None:
        """Make both paths as they were before `apply`; warn of what can't be."""


class AdoptMoved(MoveStrategy):
    """Finish a move that another command, or mv, began: the deployment is at the new path. It is not undone."""


class Rename(MoveStrategy):
    """Rename the deployment, to a path where nothing or an empty directory is."""

    def __init__(self, source: LockedDeployment, target: LockedDeployment, reporter: Reporter) -> None:
        super().__init__(source, target, reporter)
        self._empty = ReplacedFolder.at(target.path)

    def apply(self) -> bool:
        try:
            with self.source.activation_locked():
                self.target.rename_in(self.source.path)
        except OSError as problem:
            if problem.errno != errno.EXDEV:
                raise
            return False
        self.source.sync()
        return True

    def undo(self) -> None:
        source, target = self.source, self.target
        try:
            record = target.current()
            if record is not None and source.current() is None:
                self._rename_back(record)
            if self._empty is not None and not exists(target.path):
                self._empty.make(target.path)
        except (OSError, EnvpackError) as problem:
            reason = problem.message if isinstance(problem, EnvpackError) else str(problem)
            self.reporter.warn(f"the deployment at {source.path} could not be restored completely: {reason}")

    def _rename_back(self, record: Record) -> None:
        source, target = self.source, self.target
        source.adopt_kept(target)
        source.rename_in(target.path)
        target.sync()
        register(source.path, self.reporter)
        unregister(target.path)
        prefix = record.destination if source.is_named(record.destination) else str(source.given)
        rewrite_prefix(source.path, self.reporter, prefix=prefix)
        if record.generation != UNRECORDED and record.destination != prefix:
            update_record(source.path, record, destination=prefix)


class FinishCopy(MoveStrategy):
    """Finish a move to another filesystem after the copy is complete: remove the original. It is not undone."""

    copied = True

    def finish(self) -> None:
        source, target = self.source, self.target
        for kept in source.kept():
            generation = kept.record.generation
            if not exists(target.generation_path(generation)):
                staging = target.state_dir / f"{STAGING}{generation}"
                self._copy(kept.path, staging)
                sync_filesystem(staging)
                target.add_generation(staging, generation)
        target.sync()
        retry_on_interrupt(self._remove_original)

    def _copy(self, tree: Path, to: Path) -> None:
        lost = copy_tree(tree, to)
        if lost:
            self.reporter.warn(
                f"the owners of {len(lost)} files in {tree} can't be kept, so setuid, setgid and capabilities are "
                f"removed from the copies: {', '.join(lost[:5])}{', ...' if lost[5:] else ''}"
            )

    def _remove_original(self) -> None:
        source, target = self.source, self.target
        if is_folder(source.path):
            source.move_to_trash(source.path)
        try:  # the copy is the deployment now, even if these can't be removed
            for kept in source.kept():
                source.move_to_trash(kept.path)
        except OSError as problem:
            self.reporter.warn(f"{source.state_dir} can't be removed: {problem.strerror}; run the same move again")
            return
        # done: at worst, a power cut now leaves the whole original, or the journal
        with suppress(OSError):
            source.sync()
        with suppress(OSError):
            os.unlink(target.state_dir / COPY_JOURNAL)


class Copy(FinishCopy):
    """Copy the deployment to another filesystem, then remove the original."""

    def apply(self) -> bool:
        source, target = self.source, self.target
        record = source.current()
        assert record is not None
        require_no_mounts(source.trees(), "a move to another filesystem")
        with source.activation_locked(), open_transaction(target, record.size, None, record.generation) as new:
            _write_journal(source, target, record)
            title = f"Copying {record.name} {record.version} to another filesystem"
            with self.reporter.step(title, unit="files"):
                self._copy(source.path, new.folder)
                rewrite_prefix(new.folder, self.reporter, prefix=str(target.given))
                if not has_record(new.folder):
                    write_record(new.folder, record)
                sync_filesystem(new.folder)
            new.switch(mode=stat.S_IMODE(os.stat(source.path).st_mode))
        return True

    def undo(self) -> None:
        target = self.target
        try:
            if self.source.current() is not None:
                for tree in target.trees():
                    target.move_to_trash(tree)
                recover(target)
                unregister(target.path)
        except (OSError, EnvpackError) as problem:
            self.reporter.warn(f"the copy at {target.path} can't be removed: {problem}")


def _write_journal(source: DeploymentState, target: DeploymentState, record: Record) -> None:
    journal = {"from": str(source.path), "generation": record.generation, "deployed": record.deployed}
    replace_own_file(target.state_dir / COPY_JOURNAL, json.dumps(journal).encode())


def copied_from(target: DeploymentState, original: Record | None, copy: Record) -> str:
    """Return the path that a stopped command copied a deployment from; "" unless both trees are unchanged.

    Args:
        target: The new path, with the journal.
        original: The record at the old path, or None when the original is removed already.
        copy: The record at the new path.
    """
    try:
        document = json_value(read_file(target.state_dir / COPY_JOURNAL))
        same = [document["generation"], document["deployed"]]
        if all([each.generation, each.deployed] == same for each in (copy, original) if each is not None):
            return str(document["from"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return ""
