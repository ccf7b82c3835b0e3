"""A deployment goes, with those of it that are kept, and with nothing that is somebody's own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.registry import unregister
from envpack.runtime.deployment.state import Destination
from envpack.runtime.errors import DestinationError
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import additions

_SHOWN = 10


@dataclass(frozen=True)
class Removed:
    """What was removed: the generations, newest first, and the bytes they had unpacked."""

    destination: str
    generations: tuple[int, ...]
    size: int

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.remove/1``."""
        return {**vars(self), "generations": list(self.generations)}


def remove(destination: Path, *, force: bool = False, reporter: Reporter, wait: bool = False) -> Removed:
    """Removes what is deployed at ``destination`` and what is kept of it. It is gone at once, and deleted then.

    Raises DestinationError when files in it are no bundle's, or were edited (``force`` removes them, too), another
    envpack is at work there, or it can't be written.
    """
    place = Destination(destination)
    place.require_known()
    with place.at_work(reporter, wait=wait):
        place.require_known()
        current, kept = place.current(), place.kept()
        trees = [(place.final, current)] if current is not None else []
        trees += [(each.path, each.record) for each in kept]
        if not force:
            _require_nobody_s([path for path, _ in trees], place.final)
        for path, _ in trees:
            place.discard(path)
        try:
            place.sync()
        except OSError as problem:
            reporter.warn(f"after a power cut now, {place.final} may be there again: {problem.strerror}")
    unregister(place.final)
    records = [record for _, record in trees]
    generations = tuple(sorted((record.generation for record in records), reverse=True))
    return Removed(str(place.final), generations, sum(record.size for record in records))


def _require_nobody_s(trees: list[Path], final: Path) -> None:
    mine = [str(tree / path) for tree in trees for path in islice(additions(tree), _SHOWN + 1)]
    if mine:
        more = len(mine) > _SHOWN
        raise DestinationError(
            f"{final} has files that no bundle brought, or that were edited; nothing was removed",
            hint="Save what you need, or remove them too: --force.",
            details=[*mine[:_SHOWN], *(["and more"] if more else [])],
        )
