"""What was deployed in a place, and what of it is there still."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.record import Entry, Record
from envpack.runtime.deployment.state import Destination
from envpack.runtime.errors import DestinationError

CURRENT, KEPT, GONE = "current", "kept", "gone"


@dataclass(frozen=True)
class Past:
    """A generation: what it is, whether it is current, kept (at ``path``) or gone; ``size``: bytes as unpacked."""

    entry: Entry
    state: str
    path: str = ""
    size: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**self.entry.as_dict(), "state": self.state, "path": self.path or None, "size": self.size}


@dataclass(frozen=True)
class History:
    """Everything known of a destination, the newest generation first."""

    destination: str
    generations: tuple[Past, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.history/1``."""
        return {"destination": self.destination, "generations": [item.as_dict() for item in self.generations]}


def history(destination: Path) -> History:
    """What was deployed at ``destination``. Nothing is changed, and nobody is waited for.

    Raises DestinationError where nothing is known of it.
    """
    place = Destination(destination)
    place.require_known()
    current = place.current()
    found: dict[int, Past] = {}
    records: list[Record] = [] if current is None else [current]
    with suppress(PermissionError):  # while another user's deployment is at work, what is beside is not for us
        for kept in place.kept():
            records.append(kept.record)
            found[kept.record.generation] = Past(kept.record.entry, KEPT, str(kept.path), kept.record.size)
    if current is not None:
        found[current.generation] = Past(current.entry, CURRENT, str(place.final), current.size)
    for record in records:
        for entry in record.history:
            found.setdefault(entry.generation, Past(entry, GONE))
    if not found:
        raise DestinationError(f"nothing is deployed at {place.final}")
    return History(str(place.final), tuple(found[generation] for generation in sorted(found, reverse=True)))
