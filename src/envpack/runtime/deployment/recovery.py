"""Recovery of a deployment from a command that was stopped: by a crash, a signal or an error.

It is the first thing that every command does once it holds the lock, and the last of a transaction that failed. A
tree is removed only when its name says that it is staging, trash, or ready but not switched to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Optional

from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import Record, read_record, update_record
from envpack.runtime.deployment.state import (
    COPY_JOURNAL,
    LOCK,
    READY,
    STAGING,
    SWAP_JOURNAL,
    TRASH,
    DeploymentState,
)
from envpack.runtime.deployment.swap import finish_swap
from envpack.runtime.errors import DestinationError
from envpack.runtime.format.layout import DEPLOYMENT_PATH, JOURNAL_PATH
from envpack.runtime.fs.atomic import temporary_of
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import exists, is_folder
from envpack.runtime.fs.writers import other_writer
from envpack.runtime.tree.rewrite_prefix import clear_pending_rewrite

Action = Callable[[LockedDeployment, Path, Optional[Record]], None]
"""An action on an entry of the state directory: the deployment, the entry's path, the current record."""


def _delete(deployment: LockedDeployment, path: Path, current: Record | None) -> None:
    deployment.delete(path)


def _unlink(deployment: LockedDeployment, path: Path, current: Record | None) -> None:
    os.unlink(path)


def _unlink_if_undeployed(deployment: LockedDeployment, path: Path, current: Record | None) -> None:
    if current is None:
        os.unlink(path)


def _keep_if_replaced(deployment: LockedDeployment, path: Path, current: Record | None) -> None:
    """Keep what was exchanged with NAME; remove a generation that was not switched to."""
    record = read_record(path)
    switched = current is not None and path.name == f"{READY}{current.generation}"
    if switched or (record is not None and path.name != f"{READY}{record.generation}"):
        deployment.keep(path)
    else:
        deployment.move_to_trash(path)


def _keep_under_own_number(deployment: LockedDeployment, path: Path, current: Record | None) -> None:
    """Rename a tree that a rollback exchanged with NAME: the name is that of the generation now deployed."""
    record = read_record(path)
    if record is not None and path.name != str(record.generation):
        deployment.keep(path)


def _temporary(name: str) -> str:
    return re.escape(temporary_of(Path(name)).name)


ENTRY_KINDS: tuple[tuple[str, Action], ...] = (
    (f"{STAGING}.*|{TRASH}.*", _delete),
    (f"{READY}.*", _keep_if_replaced),
    (r"\d+", _keep_under_own_number),
    (f"{_temporary(SWAP_JOURNAL)}|{_temporary(COPY_JOURNAL)}", _unlink),
    (COPY_JOURNAL, _unlink_if_undeployed),
)
"""The kinds of entries in a state directory, as patterns of their whole names, and what recovery does with each.

`finish_swap` is done with the journal and the displaced tree of an exchange before; all else is left as it is.
"""


def recover(deployment: LockedDeployment) -> None:
    """Finish or roll back what a stopped command has left, and remove what is of no use.

    Raises:
        OSError: A file can't be read, renamed or removed.
    """
    finish_swap(deployment.path, deployment.state_dir, deployment.keep)
    current = deployment.current()
    if deployment.in_place and current is None:
        deployment.empty_place()
    shared = is_folder(deployment.state_dir) and other_writer(deployment.state_dir, (0, os.geteuid()))
    for path in deployment.entries():
        if shared and os.lstat(path).st_uid not in (os.geteuid(), os.lstat(deployment.state_dir).st_uid):
            continue  # another user put it there: earlier versions let a group write to the state directory
        for pattern, action in ENTRY_KINDS:
            if re.fullmatch(pattern, path.name, re.DOTALL):
                action(deployment, path, current)
                break
    for tree in deployment.trees():
        if exists(temporary_of(tree / DEPLOYMENT_PATH)):
            os.unlink(temporary_of(tree / DEPLOYMENT_PATH))
        if exists(tree / JOURNAL_PATH):
            clear_pending_rewrite(tree)
    if current is not None and exists(deployment.generation_path(current.generation)):
        # moved here by hand
        current = update_record(deployment.path, current, generation=deployment.next_generation())
    if current is not None and current.destination and not deployment.is_named(current.destination):
        _adopt_moved(deployment, current)


def _adopt_moved(deployment: LockedDeployment, current: Record) -> None:
    """Adopt the previous generations of a deployment that was moved here by hand or by a stopped command."""
    old = DeploymentState(Path(current.destination))
    if is_folder(old.state_dir) and old.current() is None:
        try:
            with locked(old.state_dir / LOCK, wait=False):
                deployment.adopt_kept(old)
                LockedDeployment(old, deployment.reporter).cleanup()
        except DestinationError:
            return  # another process holds its lock, such as the command that moves it
    update_record(deployment.path, current, destination=str(deployment.given))
