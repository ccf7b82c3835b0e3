"""Exclusive access to a deployment: its lock, held from recovery at its start to cleanup at its end."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.parents import require_safe_parents
from envpack.runtime.deployment.recovery import recover
from envpack.runtime.deployment.state import LOCK, TREE_MODE, DeploymentState, InPlace
from envpack.runtime.errors import DestinationError, path_hint
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import exists, is_folder, make_folders, remove_empty
from envpack.runtime.fs.writers import user_name
from envpack.runtime.report import Reporter


@contextmanager
def exclusive(
    state: DeploymentState, reporter: Reporter, *, wait: bool = False, any_parent: bool = False
) -> Iterator[LockedDeployment]:
    """Hold the lock of a deployment: recover what a stopped command has left, run the block, then clean up.

    Missing parents of the destination are created, and removed again when the block fails and they are empty.

    Args:
        state: The state of the deployment.
        reporter: Receives warnings.
        wait: Wait while another process holds the lock.
        any_parent: Allow root to work where other users could replace the destination or a folder above it.

    Raises:
        DestinationError: Another process holds the lock (without ``wait``), the deployment or the state directory
            belongs to another user, other users could replace what root writes, the destination can only be
            written in place (`InPlace`), or the block raised an OSError.
    """
    require_safe_parents(state.path, allowed=any_parent)
    in_place = InPlace(state.given)
    if not state.in_place and in_place.is_only_way():
        raise in_place.impossible()
    deployment = LockedDeployment(state, reporter)
    made: list[Path] = []
    entering = False
    try:
        made = make_folders(state.path.parent, TREE_MODE)
        _require_unchanged(state.path.parent)  # another user may have created a folder that was missing
        require_safe_parents(state.path, allowed=any_parent)
        _require_own(state)
        entering = True
        with locked(state.state_dir / LOCK, wait=wait, folder_mode=0o700, warn=reporter.warn):
            entering = False
            _require_own(state)
            try:
                recover(deployment)
                yield deployment
            finally:
                deployment.cleanup()
    except BaseException as problem:
        if entering and is_folder(state.state_dir):
            with suppress(OSError, DestinationError), locked(state.state_dir / LOCK, wait=False):
                deployment.cleanup()
        remove_empty(made)
        if isinstance(problem, OSError):
            raise _unwritable(state.path, problem) from problem
        raise


def _require_own(state: DeploymentState) -> None:
    """Raise DestinationError when the deployment or its state directory is another user's.

    The state directory must belong to this user, or to the owner of its parent folder, which could replace it
    anyway; otherwise another user could replace what is written to it.
    """
    if exists(state.state_dir):
        owner = os.lstat(state.state_dir).st_uid
        if not is_folder(state.state_dir) or owner not in (os.geteuid(), os.stat(state.path.parent).st_uid):
            raise DestinationError(
                f"{state.state_dir} is not a directory of this user; it was not changed",
                hint="Deploy as the user that deployed there before, or remove it.",
            )
    if os.geteuid() != 0 and state.current() is not None:
        _require_own_tree(state.path)


def _require_own_tree(path: Path) -> None:
    """Raise DestinationError when another user's deployment could be renamed, but not be deleted.

    A filesystem may show all files as those of one user (exports(5), "all_squash"), who then has the parent, too.
    """
    owner = os.lstat(path).st_uid
    if owner == os.geteuid() or (owner == os.stat(path.parent).st_uid and _is_deletable(path)):
        return
    raise DestinationError(
        f"{path} is a deployment of {user_name(owner)}; it was not changed",
        hint="Deploy or remove as the user that deployed there, or choose another destination.",
    )


def _is_deletable(tree: Path) -> bool:
    """Return whether this user may delete everything in a tree: each folder can be listed and written to."""
    needed = os.R_OK | os.W_OK | os.X_OK
    return os.access(tree, needed) and all(
        os.access(os.path.join(folder, name), needed)
        for folder, names, _ in os.walk(tree)
        for name in names
        if not os.path.islink(os.path.join(folder, name))
    )


def _require_unchanged(folder: Path) -> None:
    """Raise DestinationError when there is a link on the way to a folder, which had none before."""
    if os.path.realpath(folder) != str(folder):
        raise DestinationError(f"another process replaced {folder}, or a directory above it, with a link")


def _unwritable(path: Path, problem: OSError) -> DestinationError:
    if problem.errno == errno.EXDEV:
        return DestinationError(
            f"{path} can't be renamed: it is in a lower layer of an overlay filesystem, such as a container image",
            hint="Deploy to another path, or in the build step that creates the layer.",
        )
    return DestinationError(f"can't write to {path.parent}: {problem.strerror}", hint=path_hint(problem))
