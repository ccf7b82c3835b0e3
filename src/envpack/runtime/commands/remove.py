"""Removal of a deployment and of its previous generations; files that no bundle brought stop it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.registry import unregister
from envpack.runtime.deployment.state import InPlace, state_of
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.mounts import require_no_mounts
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import local_changes

_SHOWN = 10
"""Maximum number of files listed in an error."""


@dataclass(frozen=True)
class Removed:
    """The result of a removal.

    Attributes:
        destination: Absolute path of the deployment that was removed.
        generations: Generations that were removed, newest first.
        size: Bytes of their unpacked files.
    """

    destination: str
    generations: tuple[int, ...]
    size: int

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.remove/1``."""
        return {**vars(self), "generations": list(self.generations)}


def remove(
    destination: Path, *, force: bool = False, reporter: Reporter, wait: bool = False, any_parent: bool = False
) -> Removed:
    """Remove the deployment at ``destination`` and its previous generations.

    The trees move to the trash first, so that they are gone at once, and are deleted then.

    Args:
        destination: Directory of the deployment.
        force: Whether to remove files that no bundle brought, or that were edited, too.
        reporter: Receives warnings.
        wait: Whether to wait for another envpack that has locked the destination, instead of raising an error.
        any_parent: Whether root may work where other users could replace what is written.

    Returns:
        The generations that were removed, and their size.

    Raises:
        DestinationError: There are such files and ``force`` is not set, another envpack has locked the
            destination, or it can't be written to.
    """
    state = state_of(destination)
    state.require_known()
    with exclusive(state, reporter, wait=wait, any_parent=any_parent) as deployment:
        state.require_known()
        current, kept = state.current(), state.kept()
        trees = [(state.path, current)] if current is not None else []
        trees += [(each.path, each.record) for each in kept]
        if not force:
            _require_no_local_changes([path for path, _ in trees], state.path)
        require_no_mounts((path for path, _ in trees), "the removal")
        for path, _ in trees:
            if state.in_place:
                deployment.remove_in_place()
                reporter.note(f"the empty directory {path} stays, because you can't write to {path.parent}")
            else:
                deployment.move_to_trash(path)
        try:
            deployment.sync()
        except OSError as problem:
            reporter.warn(
                f"{state.path} was removed, but not synced to disk: {problem.strerror}; "
                "a power cut could restore it"
            )
    unregister(state.path)
    records = [record for _, record in trees]
    generations = tuple(sorted((record.generation for record in records), reverse=True))
    return Removed(str(state.path), generations, sum(record.size for record in records))


def _require_no_local_changes(trees: list[Path], root: Path) -> None:
    found = (tree / path for tree in trees for path in local_changes(tree) if path.split("/")[0] != InPlace.NAME)
    changes = [str(path) for path in islice(found, _SHOWN + 1)]
    if changes:
        more = len(changes) > _SHOWN
        raise DestinationError(
            f"{root} has files that are not from a bundle or were edited; nothing was removed",
            hint="Copy the files that you need, then use --force to remove them too.",
            details=[*changes[:_SHOWN], *(["... and more"] if more else [])],
        )
