"""Rollback to a previous generation, or forward again: a swap of directories, in which no file is rewritten."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import Record, update_record
from envpack.runtime.deployment.recovery import recover
from envpack.runtime.deployment.registry import register
from envpack.runtime.deployment.state import DeploymentState, Kept, warn_of_replaced_directory
from envpack.runtime.errors import DestinationError, EnvpackError, RelocationError
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.working_directory import is_current
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import prefix_limit
from envpack.runtime.tree.prefix import installed_prefix
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix


@dataclass(frozen=True)
class RolledBack:
    """The result of a rollback.

    Attributes:
        destination: Absolute path of the deployment.
        generation: Generation that is deployed now.
        name: Name of its environment.
        version: Version of its environment.
        tested: True when its tests passed (or it has none), False when they were not to be run, None when they did
            not come to their end.
        replaced: Generation that was deployed before and is a previous one now; None where there was none.
    """

    destination: str
    generation: int
    name: str
    version: str
    tested: bool | None
    replaced: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.rollback/1``."""
        return dict(vars(self))


def rollback(
    destination: Path, *, to: int | None = None, reporter: Reporter, wait: bool = False, any_parent: bool = False
) -> RolledBack:
    """Switch to generation ``to``, or to the one that the current deployment replaced.

    Where that generation is gone, the newest older one is taken; where the deployment itself is gone, the newest
    previous generation. After an error, everything is as it was before.

    Args:
        destination: Directory of the deployment.
        to: Generation to switch to (default: see above).
        reporter: Receives warnings.
        wait: Whether to wait for another envpack that has locked the destination, instead of raising an error.
        any_parent: Whether root may work where other users could replace what is written.

    Raises:
        DestinationError: There is no generation to switch to, another envpack has locked the destination, or it
            can't be written to.
        RelocationError: The deployment was moved to a path that is too long for that generation.
    """
    state = DeploymentState(destination)
    state.require_known()
    stands_there = is_current(state.path)
    with exclusive(state, reporter, wait=wait, any_parent=any_parent) as deployment:
        state.require_known()
        current = state.current()
        target = _target(state, current, to)
        if target is None:
            assert current is not None
            return _result(state, current, current.generation)
        record, prefix = target.record, installed_prefix(target.path)
        if prefix is None or not state.is_named(prefix):  # the deployment was moved
            prefix = str(state.given)
        _require_fit(target, prefix)
        rewrite_prefix(target.path, reporter, prefix=prefix, durable=True)
        if record.destination != prefix:
            # no later step needs disk space
            record = update_record(target.path, record, destination=prefix)
        try:
            if current is None:
                deployment.rename_in(target.path)
            else:
                deployment.swap(target.path)
                recover(deployment)  # renames the replaced tree to its generation
        except BaseException:
            if current is not None:
                replaced = current
                retry_on_interrupt(lambda: _undo(deployment, replaced, reporter))
            raise
    register(state.path, reporter)
    if stands_there:
        warn_of_replaced_directory(state, reporter)
    return _result(state, record, current.generation if current is not None else None)


def _require_fit(kept: Kept, prefix: str) -> None:
    length, (limit, limited_by) = len(os.fsencode(prefix)), prefix_limit(kept.path)
    if limit is not None and length > limit:
        record = kept.record
        raise RelocationError(
            f"generation {record.generation} ({record.name} {record.version}) can't be activated: {prefix} has "
            f"{length} bytes, and at most {limit} fit",
            hint=f"Move the deployment to a path of at most {limit} bytes, then repeat the rollback: "
            f"envpack move {prefix} TO",
            details=[f"{limited_by}: at most {limit} bytes"],
        )


def _undo(deployment: LockedDeployment, replaced: Record, reporter: Reporter) -> None:
    try:
        recover(deployment)
        for kept in deployment.kept():
            if kept.record.generation == replaced.generation:
                deployment.swap(kept.path, onward=True)
                recover(deployment)
    except (OSError, EnvpackError) as problem:
        reporter.warn(f"{deployment.path} could not be restored: {problem}")


def _result(state: DeploymentState, record: Record, replaced: int | None) -> RolledBack:
    return RolledBack(str(state.given), record.generation, record.name, record.version, record.tested, replaced)


def _target(state: DeploymentState, current: Record | None, to: int | None) -> Kept | None:
    """Return the previous generation to switch to, or None when it is the current one."""
    kept = {each.record.generation: each for each in state.kept()}
    if to is not None:
        if current is not None and to == current.generation:
            return None
        if to in kept:
            return kept[to]
    elif current is None:
        if kept:
            return kept[max(kept)]
    elif current.replaced in kept:
        return kept[current.replaced]
    else:
        older = [generation for generation in kept if generation < current.generation]
        if older:
            return kept[max(older)]
    what = "there is no previous generation" if to is None else f"there is no generation {to}"
    listed = ", ".join(f"{generation} ({kept[generation].record.version})" for generation in sorted(kept))
    raise DestinationError(
        f"{state.path} can't be rolled back: {what}",
        hint=f"Use --to with one of: {listed}." if listed else "Deploy with '--keep N' to keep more generations.",
    )
