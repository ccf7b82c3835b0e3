"""Back to a deployment that is kept, and forth again: at once, nothing is rewritten."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.record import Record, note
from envpack.runtime.deployment.registry import register
from envpack.runtime.deployment.state import Destination, Kept
from envpack.runtime.errors import DestinationError, EnvpackError, RelocationError
from envpack.runtime.fs.interrupt import to_its_end
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import limit_of
from envpack.runtime.tree.rewrite_prefix import settle


@dataclass(frozen=True)
class RolledBack:
    """What is deployed now, and the generation that was until then (None: nothing was), which is kept."""

    destination: str
    generation: int
    name: str
    version: str
    tested: bool | None
    replaced: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.rollback/1``."""
        return dict(vars(self))


def rollback(destination: Path, *, to: int | None = None, reporter: Reporter, wait: bool = False) -> RolledBack:
    """Switches to generation ``to``, or to the one that the current deployment came after.

    Where the deployment itself is gone, the newest one that is kept takes its place. Raises DestinationError when
    there is nothing to switch to, another envpack is at work there (``wait`` waits for it), or it can't be
    written; RelocationError when the deployment was moved to a place that is too long for that generation. Then
    everything is as it was.
    """
    place = Destination(destination)
    place.require_known()
    with place.at_work(reporter, wait=wait):
        place.require_known()
        current = place.current()
        kept = _wanted(place, current, to)
        if kept is None:
            assert current is not None
            return _result(place, current, current.generation)
        _require_fit(kept, str(place.final))
        settle(kept.path, reporter, place=str(place.final), durable=True)  # where it was moved, by hand or before
        record = kept.record
        if record.destination != str(place.final):
            record = note(kept.path, record, destination=str(place.final))  # from here on nothing needs space
        try:
            if current is None:
                place.appear(kept.path)
            else:
                place.swap(kept.path)
                place.recover()  # gives what was deployed its own name
        except BaseException:
            if current is not None:
                former = current
                to_its_end(lambda: _put_back(place, former, reporter))
            raise
    register(place.final, reporter)
    return _result(place, record, current.generation if current is not None else None)


def _require_fit(kept: Kept, prefix: str) -> None:
    length, (limit, limited_by) = len(os.fsencode(prefix)), limit_of(kept.path)
    if limit is not None and length > limit:
        record = kept.record
        raise RelocationError(
            f"generation {record.generation} ({record.name} {record.version}) can't be switched to: {prefix} has "
            f"{length} bytes, and there is room for {limit}",
            hint=f"Move the deployment to a path of at most {limit} bytes, and switch back there: "
            f"envpack move {prefix} TO",
            details=[f"{limited_by}: room for {limit} bytes"],
        )


def _put_back(place: Destination, former: Record, reporter: Reporter) -> None:
    try:
        place.recover()
        for kept in place.kept():
            if kept.record.generation == former.generation:
                place.swap(kept.path, onward=True)
                place.recover()
    except (OSError, EnvpackError) as problem:
        reporter.warn(f"{place.final} could not be put back as it was: {problem}")


def _result(place: Destination, record: Record, replaced: int | None) -> RolledBack:
    return RolledBack(str(place.final), record.generation, record.name, record.version, record.tested, replaced)


def _wanted(place: Destination, current: Record | None, to: int | None) -> Kept | None:
    """The kept deployment that is meant; None when it is the current one."""
    kept = {each.record.generation: each for each in place.kept()}
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
    what = "no deployment before it is kept" if to is None else f"generation {to} is not kept"
    listed = ", ".join(f"{generation} ({kept[generation].record.version})" for generation in sorted(kept))
    raise DestinationError(
        f"{place.final} can't be switched back: {what}",
        hint=f"--to switches to one of: {listed}." if listed else "'--keep N' of deploy keeps more.",
    )
