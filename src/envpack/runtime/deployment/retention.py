"""The retention of previous generations: which of them stay after a deployment."""

from __future__ import annotations

from itertools import islice

from envpack.runtime.deployment.record import Record
from envpack.runtime.deployment.state import Destination
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import additions


def prune(place: Destination, keep: int, reporter: Reporter, before: Record | None) -> tuple[int, ...]:
    """Remove previous generations beyond the number to keep; call it within `Destination.exclusive`.

    A generation with files that no bundle brought, or that were edited, is never removed. A warning names each
    such generation, and what can't be removed. ``before`` counts as the newest.

    Args:
        place: The destination.
        keep: The number of previous generations to keep.
        reporter: Receives the warnings.
        before: The generation that was just replaced, or None.

    Returns:
        The generations that stay, the newest first.
    """
    staying: list[int] = []
    try:
        kept = sorted(place.kept(), key=lambda kept: before is None or kept.record.generation != before.generation)
        staying = [old.record.generation for old in kept]
        for old in kept[keep:]:
            mine = list(islice(additions(old.path), 3))
            if mine:
                reporter.warn(
                    f"generation {old.record.generation} stays, in {old.path}: "
                    f"it has files that no bundle brought, such as {', '.join(mine)}"
                )
            else:
                place.discard(old.path)
                staying.remove(old.record.generation)
    except OSError as problem:
        reporter.warn(f"previous deployments could not be removed: {problem.filename}: {problem.strerror}")
    return tuple(sorted(staying, reverse=True))
