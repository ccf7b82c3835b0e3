"""Which previous generations of a deployment stay."""

from __future__ import annotations

from itertools import islice

from envpack.runtime.deployment.record import Record
from envpack.runtime.deployment.state import Destination
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import additions


def prune(place: Destination, keep: int, reporter: Reporter, before: Record | None) -> tuple[int, ...]:
    """Removes the previous deployments beyond ``keep``, the one ``before`` last; never one that has files in it
    that no bundle brought. What can't be removed is told. The generations that stay, the newest first.

    For within `Destination.at_work`.
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
