"""The ``changes`` of a manifest: differences between an environment and its packages, and unrelocatable files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Unrelocatable:
    """A file that mentions the prefix of the packed environment where no other prefix can be written.

    Attributes:
        path: path of the file in the environment.
        reason: where in the file the prefix is mentioned, and why it can't be replaced.
        matters: whether this may affect a program, as far as is known.
    """

    path: str
    reason: str
    matters: bool = True


@dataclass(frozen=True)
class Changes:
    """Sorted paths of the environment, by the way in which they differ from their packages.

    Attributes:
        modified: files that are not as their package published them.
        missing: files of a package that are not in the environment.
        foreign: files of no package.
        replaced: files left out because envpack has its own, or overwritten by pip.
        left_out: files of editable installs that were to be left out.
        outside: links that lead out of the environment and are allowed to.
        needs_activation: scripts that run without activation only where their first line can stay short and free
            of blanks.
        unrelocatable: files that mention the prefix of the packed environment where it can't be replaced.
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
        """The number of items of each kind, including the kinds with none."""
        return {name: len(found) for name, found in vars(self).items()}


def changes_to_json(changes: Changes) -> dict[str, list[Any]]:
    """Return the manifest's ``changes``: lists of paths, and a list of objects for ``unrelocatable``."""
    lists: dict[str, list[Any]] = {name: list(found) for name, found in vars(changes).items()}
    lists["unrelocatable"] = [dict(vars(item)) for item in changes.unrelocatable]
    return lists


def changes_from_json(document: Any) -> Changes:
    """Return the changes that ``document`` describes, the inverse of `changes_to_json`; a missing list is empty.

    Raises:
        ValueError: the document has not the form that `changes_to_json` gives.
    """
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
