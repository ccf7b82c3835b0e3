"""The retention of previous generations: which of them stay after a deployment."""

from __future__ import annotations

from itertools import islice

from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import Record
from envpack.runtime.errors import failed_path
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import local_changes


def prune(deployment: LockedDeployment, keep: int, reporter: Reporter, before: Record | None) -> tuple[int, ...]:
    """Remove previous generations beyond the number to keep.

    A generation with files that no bundle brought, or that were edited, is never removed. A warning names each
    such generation, and what can't be removed. ``before`` counts as the newest.

    Args:
        deployment: The deployment, which is locked.
        keep: The number of previous generations to keep.
        reporter: Receives the warnings.
        before: The generation that was just replaced, or None.

    Returns:
        The generations that stay, the newest first.
    """
    staying: list[int] = []
    try:
        newest = before.generation if before is not None else None
        kept = sorted(deployment.kept(), key=lambda kept: newest is not None and kept.record.generation != newest)
        staying = [old.record.generation for old in kept]
        for old in kept[keep:]:
            changes = list(islice(local_changes(old.path), 3))
            if changes:
                reporter.warn(
                    f"generation {old.record.generation} was not removed from {old.path}: "
                    f"it has files that are not from a bundle or were edited, such as {', '.join(changes)}"
                )
            else:
                deployment.move_to_trash(old.path)
                staying.remove(old.record.generation)
    except OSError as problem:
        reporter.warn(f"previous generations could not be removed: {failed_path(problem)}: {problem.strerror}")
    return tuple(sorted(staying, reverse=True))
