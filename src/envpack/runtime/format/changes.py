"""How an environment differs from its packages, and what of it can't be as it was: a bundle's ``changes``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Unrelocatable:
    """A file that mentions the packed environment's place where no other can be written in.

    ``reason``: where in it and why not. ``matters``: whether a program may miss it, as far as is known.
    """

    path: str
    reason: str
    matters: bool = True


@dataclass(frozen=True)
class Changes:
    """Paths, sorted.

    ``modified``: not as their package published them; ``missing``: gone; ``foreign``: of no package; ``replaced``:
    left out for envpack's own, or overwritten by pip; ``left_out``: of editable installs that were to be left out;
    ``outside``: links that lead out of the environment, to be kept; ``needs_activation``: scripts that run outside
    of the activated environment only where their first line can stay short and free of blanks.
    """

    modified: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    needs_activation: tuple[str, ...] = ()
    unrelocatable: tuple[Unrelocatable, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each, those of none too."""
        return {name: len(found) for name, found in vars(self).items()}


def changes_to_json(changes: Changes) -> dict[str, list[Any]]:
    """The manifest's ``changes``: lists of paths, and of objects for ``unrelocatable``."""
    lists: dict[str, list[Any]] = {name: list(found) for name, found in vars(changes).items()}
    lists["unrelocatable"] = [dict(vars(item)) for item in changes.unrelocatable]
    return lists


def changes_from_json(document: Any) -> Changes:
    """The inverse; what is missing is empty. Raises ValueError for anything else than `changes_to_json` gives."""
    if not isinstance(document, dict):
        raise ValueError("an object expected")
    names = [field.name for field in fields(Changes) if field.name != "unrelocatable"]
    return Changes(
        **{name: _paths(document.get(name, []), name) for name in names},
        unrelocatable=tuple(
            _unrelocatable(item) for item in _list(document.get("unrelocatable", []), "unrelocatable")
        ),
    )


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name}: a list expected")
    return value


def _paths(value: Any, name: str) -> tuple[str, ...]:
    for item in _list(value, name):
        if not isinstance(item, str):
            raise ValueError(f"{name}: a list of strings expected")
    return tuple(value)


def _unrelocatable(item: Any) -> Unrelocatable:
    if not isinstance(item, dict):
        raise ValueError("unrelocatable: a list of objects expected")
    path, reason, matters = item.get("path"), item.get("reason"), item.get("matters", True)
    if not (isinstance(path, str) and isinstance(reason, str) and isinstance(matters, bool)):
        raise ValueError("unrelocatable: path, reason and matters expected")
    return Unrelocatable(path, reason, matters)
