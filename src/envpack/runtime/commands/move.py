"""Move of a deployment to another path: rename it, then rewrite its prefix; undo the rename when that fails.

A crash leaves a whole deployment at one path or the other. Where it is at the new path and its prefix is not
rewritten yet, its activation finishes that, as after any ``mv``; so does the same command, run again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import UNRECORDED, Record, has_record, note, write_record
from envpack.runtime.deployment.recovery import recover
from envpack.runtime.deployment.registry import register, unregister
from envpack.runtime.deployment.state import COPY_JOURNAL, STAGING, DeploymentState
from envpack.runtime.deployment.transaction import open_transaction
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.paths import is_folder, is_there
from envpack.runtime.fs.sync import sync_filesystem
from envpack.runtime.report import Reporter
from envpack.runtime.store.store import follow
from envpack.runtime.tree.head import limit_of, read_head
from envpack.runtime.tree.prefix import check_prefix, installed_prefix
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix


@dataclass(frozen=True)
class Moved:
    """The result of a move.

    Attributes:
        source: Path of the deployment before.
        destination: Path of the deployment now.
        name: Name of the environment.
        version: Version of the environment.
        generation: Generation that was moved.
        rewritten: Number of files that the new prefix was written into.
        changed: Files that were edited by hand, left as they are.
        unfit: Previous generations, newest first, for which the new path is too long.
        copied: Whether the tree was copied to another filesystem.
        seconds: Duration of the whole move.
    """

    source: str
    destination: str
    name: str
    version: str
    generation: int
    rewritten: int
    changed: tuple[str, ...]
    unfit: tuple[int, ...]
    copied: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.move/1``."""
        return {**vars(self), "changed": list(self.changed), "unfit": list(self.unfit)}


def move(source: Path, destination: Path, *, reporter: Reporter, wait: bool = False) -> Moved:
    """Move a deployment and its previous generations to another path.

    After an error, the deployment is where it was. A warning names, before anything is moved, each previous
    generation that does not fit the new path; it moves, too, and fits again at the old path.

    Args:
        source: Directory of the deployment.
        destination: New path, where nothing or an empty directory is.
        reporter: Receives progress and warnings.
        wait: Whether to wait for another envpack that has locked one of the paths, instead of raising an error.

    Returns:
        Both paths, and what was done to the files.

    Raises:
        DestinationError: There is no deployment, no free path or no disk space for it, or another envpack has
            locked one of the paths.
        RelocationError: The new prefix can't be written into the files.
        IntegrityError: The paths table of the deployment was changed.
    """
    started = time.monotonic()
    old, new = DeploymentState(source), DeploymentState(destination)
    new.require_free_or_deployed()
    if old.path == new.path:
        raise DestinationError(f"{old.path} is where it is already")
    if old.path in new.path.parents:
        raise DestinationError(f"{new.path} lies in {old.path} itself")
    how, copied = _how(old, new), False
    here, there = LockedDeployment(old, reporter), LockedDeployment(new, reporter)
    with ExitStack() as stack:
        # always in the same order: two moves between the same two paths must not wait for each other for ever
        for state in sorted((old, new), key=lambda state: str(state.path)):
            if state is new or how != BEGUN or is_folder(old.state_dir):
                stack.enter_context(exclusive(state, reporter, wait=wait))
        if how != BEGUN:
            how = _how(here, there)
        unfit = _tell_unfit(here, there, reporter)
        was_empty = how == RENAMED and is_folder(there.path)
        try:
            if how == RENAMED and not _renamed(here, there):
                how, copied = COPIED, True
                _copy_over(here, there, reporter)
            record = there.current()
            if record is None:
                raise DestinationError(f"{there.path} was changed by somebody else meanwhile")
            register(there.path, reporter)
            settled = rewrite_prefix(there.path, reporter, durable=True)
            if how == COPIED:
                _finish_copy(here, there, reporter)
            else:
                there.adopt_kept(here)
            with suppress(OSError):  # otherwise the next command there records it
                record = note(there.path, record, destination=str(there.path), came_from=str(here.path))
            if how != COPIED:
                there.sync()
        except BaseException:
            if how == RENAMED:
                retry_on_interrupt(lambda: _bring_back(here, there, reporter, was_empty))
            elif copied:
                retry_on_interrupt(lambda: _undo_copy(here, there, reporter))
            raise
    unregister(here.path)
    if record.store:
        follow(record.store, here.path, there.path)
    return Moved(
        source=str(here.path),
        destination=str(there.path),
        name=record.name,
        version=record.version,
        generation=record.generation,
        rewritten=settled.written,
        changed=settled.changed,
        unfit=unfit,
        copied=how == COPIED,
        seconds=round(time.monotonic() - started, 3),
    )


RENAMED, COPIED, BEGUN = "renamed", "copied", "begun"


def _how(here: DeploymentState, there: DeploymentState) -> str:
    """Return the kind of move that is to be done or finished.

    Returns:
        `RENAMED`: rename the deployment. `COPIED`: finish a copy. `BEGUN`: finish a move that an earlier command,
        or mv, started or completed.

    Raises:
        DestinationError: No move is possible.
    """
    current, arrived = here.current(), there.current()
    if arrived is not None:
        if _copied_from(there, current, arrived) == str(here.path):
            return COPIED
        if current is None and str(here.path) in (
            arrived.destination,
            arrived.came_from,
            installed_prefix(there.path),
        ):
            return BEGUN
        raise DestinationError(
            f"{there.path} exists and is a deployment; it was left as it is",
            hint="Choose another destination, or 'envpack remove' it first.",
        )
    if current is None:
        reason = here.occupied() or f"nothing is deployed at {here.path}"
        raise DestinationError(reason, hint="'envpack list' shows what is deployed on this host.")
    if there.kept():
        raise DestinationError(
            f"of {there.path} previous deployments are kept, in {there.state_dir}",
            hint=f"Remove them first: envpack remove {there.path}",
        )
    check_prefix(read_head(here.path)[0], str(there.path))
    return RENAMED


def _tell_unfit(here: DeploymentState, there: DeploymentState, reporter: Reporter) -> tuple[int, ...]:
    """Warn of previous generations that the new path is too long to switch back to; return them, newest first."""
    length, unfit = len(os.fsencode(there.path)), []
    found = {each.record.generation: each for each in (*there.kept(), *here.kept())}
    for generation, kept in sorted(found.items(), reverse=True):
        limit, _ = limit_of(kept.path)
        if limit is not None and length > limit:
            unfit.append(generation)
            reporter.warn(
                f"generation {generation} ({kept.record.name} {kept.record.version}), which is kept, can't be "
                f"switched back to at {there.path}: that has {length} bytes, and there is room for {limit}; "
                "'envpack move' to a path as short makes it possible again"
            )
    return tuple(unfit)


def _renamed(here: LockedDeployment, there: LockedDeployment) -> bool:
    """Rename the deployment; return False where the new path is on another filesystem."""
    try:
        with here.activation_locked():
            there.appear(here.path)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        return False
    here.sync()
    return True


def _bring_back(here: LockedDeployment, there: LockedDeployment, reporter: Reporter, was_empty: bool) -> None:
    try:
        record = there.current()
        if record is not None and here.current() is None:
            here.adopt_kept(there)
            here.appear(there.path)
            there.sync()
            register(here.path, reporter)
            unregister(there.path)
            rewrite_prefix(here.path, reporter)
            if record.generation != UNRECORDED and record.destination != str(here.path):
                note(here.path, record, destination=str(here.path))
        if was_empty and not is_there(there.path):
            os.mkdir(there.path)
    except (OSError, EnvpackError) as problem:
        told = problem.message if isinstance(problem, EnvpackError) else str(problem)
        reporter.warn(f"the deployment is not back at {here.path}, whole as it was: {told}")


# --- move to another filesystem ---


def _copied_from(there: DeploymentState, current: Record | None, arrived: Record) -> str:
    """Return the path that a stopped command copied the deployment from; "" unless both trees are unchanged."""
    try:
        document = json.loads((there.state_dir / COPY_JOURNAL).read_bytes())
        same = [document["generation"], document["deployed"]]
        if all([each.generation, each.deployed] == same for each in (arrived, current) if each is not None):
            return str(document["from"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return ""


def _copy_over(here: LockedDeployment, there: LockedDeployment, reporter: Reporter) -> None:
    record = here.current()
    assert record is not None
    with here.activation_locked(), open_transaction(there, record.size, None, record.generation) as new:
        noted = {"from": str(here.path), "generation": record.generation, "deployed": record.deployed}
        replace_file(there.state_dir / COPY_JOURNAL, json.dumps(noted).encode())
        with reporter.step(f"Copying {record.name} {record.version} to another filesystem", unit="files"):
            copy_tree(here.path, new.folder)
            rewrite_prefix(new.folder, reporter, place=str(there.path))
            if not has_record(new.folder):
                write_record(new.folder, record)
            sync_filesystem(new.folder)
        new.switch(mode=stat.S_IMODE(os.stat(here.path).st_mode))


def _finish_copy(here: LockedDeployment, there: LockedDeployment, reporter: Reporter) -> None:
    for kept in here.kept():
        if not is_there(there.state_dir / str(kept.record.generation)):
            fresh = there.state_dir / f"{STAGING}{kept.record.generation}"
            copy_tree(kept.path, fresh)
            sync_filesystem(fresh)
            there.receive(fresh, kept.record.generation)
    there.sync()

    def leave() -> None:
        if is_folder(here.path):
            here.move_to_trash(here.path)
        try:  # the copy is the deployment now, even if these can't be removed
            for kept in here.kept():
                here.move_to_trash(kept.path)
        except OSError as problem:
            reporter.warn(
                f"what was kept in {here.state_dir} can't be removed: {problem.strerror}; move it once more"
            )
            return
        # done: at worst, a power cut now leaves the whole original, or the file COPY_JOURNAL
        with suppress(OSError):
            here.sync()
        with suppress(OSError):
            os.unlink(there.state_dir / COPY_JOURNAL)

    retry_on_interrupt(leave)


def _undo_copy(here: LockedDeployment, there: LockedDeployment, reporter: Reporter) -> None:
    try:
        if here.current() is not None:
            for tree in there.trees():
                there.move_to_trash(tree)
            recover(there)
            unregister(there.path)
    except (OSError, EnvpackError) as problem:
        reporter.warn(f"the copy at {there.path} can't be removed: {problem}")


def copy_tree(source: Path, target: Path) -> None:
    """Copy a whole tree: symbolic links as links, hard links among its files as hard links, with times and modes.

    Raises:
        OSError: A file can't be read or written.
    """
    seen: dict[int, str] = {}

    def copy(folder: str, to: str) -> None:
        os.makedirs(to, exist_ok=True)
        with os.scandir(folder) as entries:
            for entry in entries:
                path = os.path.join(to, entry.name)
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    copy(entry.path, path)
                elif status.st_ino in seen:
                    os.link(seen[status.st_ino], path, follow_symlinks=False)
                else:
                    shutil.copy2(entry.path, path, follow_symlinks=False)
                    if status.st_nlink > 1:
                        seen[status.st_ino] = path
        shutil.copystat(folder, to)

    copy(str(source), str(target))
