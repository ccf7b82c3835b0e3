"""The history of a destination: all generations that were deployed there, and which of them still exist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.record import Generation, Record
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError

CURRENT, KEPT, GONE = "current", "kept", "gone"


@dataclass(frozen=True)
class HistoryEntry(Generation):
    """A generation in the history of a destination.

    Args:
        state: `CURRENT`, `KEPT` (a previous generation that still exists) or `GONE`.
        path: The folder of its tree; "" when it is gone.
        size: Bytes of its files, unpacked; None when it is gone.
    """

    state: str
    path: str = ""
    size: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "state": self.state, "path": self.path or None, "size": self.size}


@dataclass(frozen=True)
class History:
    """All known generations of a destination, the newest first."""

    destination: str
    generations: tuple[HistoryEntry, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.history/1``, for JSON."""
        return {"destination": self.destination, "generations": [item.as_dict() for item in self.generations]}


def history(destination: Path) -> History:
    """Return the generations that were deployed at ``destination``.

    Changes nothing, takes no lock and waits for no other process. Raises DestinationError when nothing is known of
    the destination, and OSError when it can't be read.
    """
    state = DeploymentState(destination)
    state.require_known()
    current = state.current()
    found: dict[int, HistoryEntry] = {}
    records: list[Record] = [] if current is None else [current]
    for kept in state.kept_in_sight():
        records.append(kept.record)
        found[kept.record.generation] = _entry(kept.record, KEPT, str(kept.path), kept.record.size)
    if current is not None:
        found[current.generation] = _entry(current, CURRENT, str(state.path), current.size)
    for record in records:
        for gone in record.history:
            found.setdefault(gone.generation, _entry(gone, GONE))
    if not found:
        raise DestinationError(f"nothing is deployed at {state.path}")
    return History(str(state.path), tuple(found[generation] for generation in sorted(found, reverse=True)))


def _entry(generation: Generation, state: str, path: str = "", size: int | None = None) -> HistoryEntry:
    return HistoryEntry(**Generation.as_dict(generation), state=state, path=path, size=size)
