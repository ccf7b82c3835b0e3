"""Move of a deployment to another path: rename it, then rewrite its prefix; undo the rename when that fails.

A crash leaves a whole deployment at one path or the other. Where it is at the new path and its prefix is not
rewritten yet, its activation finishes that, as after any ``mv``; so does the same command, run again.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from envpack.runtime.commands.destination_checks import require_executable
from envpack.runtime.commands.move_strategies import (
    AdoptMoved,
    Copy,
    FinishCopy,
    MoveStrategy,
    Rename,
    copied_from,
)
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import Record, update_record
from envpack.runtime.deployment.registry import register, unregister
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.paths import check_links, is_folder
from envpack.runtime.report import Reporter
from envpack.runtime.store.store import follow
from envpack.runtime.tree.head import allows_room, prefix_limit, read_head
from envpack.runtime.tree.prefix import check_prefix, installed_prefix, refuse_generation
from envpack.runtime.tree.rewrite_prefix import RewriteResult, rewrite_prefix


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


def move(
    source: Path, destination: Path, *, reporter: Reporter, wait: bool = False, any_parent: bool = False
) -> Moved:
    """Move a deployment and its previous generations to another path.

    After an error, the deployment is where it was. A warning names, before anything is moved, each previous
    generation that does not fit the new path; it moves, too, and fits again at the old path.

    Args:
        source: Directory of the deployment.
        destination: New path, where nothing or an empty directory is.
        reporter: Receives progress and warnings.
        wait: Whether to wait for another envpack that has locked one of the paths, instead of raising an error.
        any_parent: Whether root may work where other users could replace what is written.

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
    check_links(old.given.parent)
    refuse_generation(old.path)
    new.require_free_or_deployed()
    require_executable(new, (), reporter)
    if old.path == new.path:
        raise DestinationError(f"source and destination are the same: {old.path}")
    if old.path in new.path.parents:
        raise DestinationError(f"the destination {new.path} is inside the deployment {old.path}")
    kind = _strategy(old, new)
    with _both_locked(old, new, kind, reporter, wait, any_parent) as (locked_old, locked_new):
        if kind is not AdoptMoved:
            kind = _strategy(old, new)
        unfit = _warn_unfit(old, new, reporter)
        strategy = kind(locked_old, locked_new, reporter)
        try:
            if not strategy.apply():
                strategy = Copy(locked_old, locked_new, reporter)
                strategy.apply()
            record, rewritten = _complete(strategy, reporter)
        except BaseException:
            retry_on_interrupt(strategy.undo)
            raise
    unregister(old.path)
    if record.store:
        follow(record.store, old.path, new.path)
    return Moved(
        source=str(old.given),
        destination=str(new.given),
        name=record.name,
        version=record.version,
        generation=record.generation,
        rewritten=rewritten.written,
        changed=rewritten.changed,
        unfit=unfit,
        copied=strategy.copied,
        seconds=round(time.monotonic() - started, 3),
    )


@contextmanager
def _both_locked(
    old: DeploymentState,
    new: DeploymentState,
    kind: type[MoveStrategy],
    reporter: Reporter,
    wait: bool,
    any_parent: bool,
) -> Iterator[tuple[LockedDeployment, LockedDeployment]]:
    """Lock both paths; the old one not where a move has left nothing there.

    Always in the same order: two moves between the same two paths must not wait for each other for ever.
    """
    with ExitStack() as stack:
        for state in sorted((old, new), key=lambda state: str(state.path)):
            if state is new or kind is not AdoptMoved or is_folder(old.state_dir):
                stack.enter_context(exclusive(state, reporter, wait=wait, any_parent=any_parent))
        yield LockedDeployment(old, reporter), LockedDeployment(new, reporter)


def _complete(strategy: MoveStrategy, reporter: Reporter) -> tuple[Record, RewriteResult]:
    """Make what arrived at the new path a deployment of that path; return its record and what was rewritten."""
    source, target = strategy.source, strategy.target
    record = target.current()
    if record is None:
        raise DestinationError(f"another process changed {target.path} during the move")
    register(target.path, reporter)
    rewritten = rewrite_prefix(target.path, reporter, prefix=str(target.given), durable=True)
    strategy.finish()
    with suppress(OSError):  # otherwise the next command there records it
        record = update_record(target.path, record, destination=str(target.given), came_from=str(source.path))
    return record, rewritten


def _strategy(source: DeploymentState, target: DeploymentState) -> type[MoveStrategy]:
    """Return the kind of move that is to be done or finished; raise DestinationError when none is possible."""
    current, arrived = source.current(), target.current()
    if arrived is not None:
        if copied_from(target, current, arrived) == str(source.path):
            return FinishCopy
        origins = (arrived.destination, arrived.came_from, installed_prefix(target.path))
        if current is None and any(source.is_named(origin) for origin in origins):
            return AdoptMoved
        raise DestinationError(
            f"{target.path} is already a deployment; it was not changed",
            hint="Choose another destination, or remove it first with 'envpack remove'.",
        )
    if current is None:
        reason = source.occupied() or f"nothing is deployed at {source.path}"
        raise DestinationError(reason, hint="Run 'envpack list' to see the deployments on this host.")
    if target.kept():
        raise DestinationError(
            f"there are previous generations of {target.path} in {target.state_dir}",
            hint=f"Remove them first: envpack remove {target.path}",
        )
    check_prefix(read_head(source.path)[0], str(target.given), any_length=allows_room(source.path))
    return Rename


def _warn_unfit(source: DeploymentState, target: DeploymentState, reporter: Reporter) -> tuple[int, ...]:
    """Warn of previous generations that the new path is too long to switch back to; return them, newest first."""
    length, unfit = len(os.fsencode(target.given)), []
    found = {each.record.generation: each for each in (*target.kept(), *source.kept())}
    for generation, kept in sorted(found.items(), reverse=True):
        limit, _ = prefix_limit(kept.path)
        if limit is not None and length > limit:
            unfit.append(generation)
            reporter.warn(
                f"rollback to generation {generation} ({kept.record.name} {kept.record.version}) will not be "
                f"possible at {target.given}: the path has {length} bytes, and at most {limit} fit; "
                "it is possible again after a move to a path that fits"
            )
    return tuple(unfit)
