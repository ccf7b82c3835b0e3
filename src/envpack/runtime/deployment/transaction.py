"""The transaction that deploys a generation: written to staging, then switched to in one step, or rolled back."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import Iterator

from envpack.runtime.deployment.locked import LockedDeployment
from envpack.runtime.deployment.record import Record, has_record
from envpack.runtime.deployment.recovery import recover
from envpack.runtime.deployment.state import READY, STAGING, TREE_MODE
from envpack.runtime.deployment.swap import finish_swap, writable_dirs
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.copy import give_tree
from envpack.runtime.fs.interrupt import retry_on_interrupt
from envpack.runtime.fs.io import READ_FOLDER, other_owner
from envpack.runtime.fs.paths import ReplacedFolder, exists, umask
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.fs.writers import default_mode
from envpack.runtime.report import human_size


class Transaction:
    """A transaction: a generation is written to ``folder``, then `switch` makes it the current deployment.

    Args:
        deployment: The deployment, which is locked.
        before: The current deployment, which is to be replaced, or None.
        generation: The number of the new generation.
    """

    def __init__(self, deployment: LockedDeployment, before: Record | None, generation: int) -> None:
        self._deployment, self._before, self.generation = deployment, before, generation
        self.folder = deployment.state_dir / f"{STAGING}{self.generation}"
        self._ready = deployment.state_dir / f"{READY}{self.generation}"
        self._status: os.stat_result | None = None
        self._mode = TREE_MODE & ~umask()
        self._replaced = ReplacedFolder.at(deployment.path)

    def open(self, size: int) -> None:
        """Create the staging folder; raise DestinationError when its disk has less than ``size`` bytes free."""
        os.mkdir(self.folder, 0o700)
        self._mode &= default_mode(self.folder)
        self._status = os.stat(self.folder)
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise DestinationError(
                f"{self._deployment.path.parent} has {human_size(free)} free, "
                f"but the bundle needs {human_size(size)}",
                hint="Free some disk space, or choose a destination on another disk. "
                "'deploy --allow disk' ignores this.",
            )

    def switch(self, mode: int | None = None) -> None:
        """Make the new generation the current deployment, in one step.

        ``mode`` is the mode of its folder; by default that of the replaced deployment or empty folder, or
        `TREE_MODE` without the umask, and without what a default access control list withholds. If root replaces a
        deployment of another user, the new one is that user's, too.
        Raises OSError when it can't be switched to, and DestinationError when something else has appeared at a
        destination that was free.
        """
        if not has_record(self.folder):
            raise OSError(errno.ENOENT, "the deployment has no record", str(self.folder))
        if self._before is not None:
            self._keep_owner()
        os.rename(self.folder, self._ready)
        if self._replaced is not None:
            self._replaced.give(self._ready)
        if self._replaced is None or mode is not None:
            os.chmod(self._ready, self._mode if mode is None else mode)
        sync_folder(self._deployment.state_dir)  # else a power cut could leave the replaced tree as new-G
        if self._before is not None:
            self._deployment.swap(self._ready)
            self._deployment.keep(self._ready)
            return
        try:
            self._deployment.rename_in(self._ready)
        except OSError as problem:
            raise DestinationError(
                f"another process created {self._deployment.path} during the deployment: {problem.strerror}"
            ) from None

    def rollback(self) -> None:
        """Roll back the transaction at any stage, from the state on disk, as recovery after a crash does.

        Raises OSError or DestinationError when the previous state can't be restored.
        """
        deployment = self._deployment
        finish_swap(deployment.path, deployment.state_dir, deployment.keep)
        if deployment.in_place:
            deployment.empty_place()
        if self._is_switched():
            if self._before is None:
                with writable_dirs(deployment.path):
                    os.rename(deployment.path, self._ready)
                if self._replaced is not None:
                    self._replaced.make(deployment.path)
            else:
                previous = deployment.generation_path(self._before.generation)
                if not exists(self._ready):
                    os.rename(previous, self._ready)
                deployment.swap(self._ready, onward=True)
        recover(deployment)

    def _keep_owner(self) -> None:
        owner = other_owner(self._deployment.path)
        if owner is None or self._status is None:
            return
        folder = os.open(self.folder, READ_FOLDER)
        try:
            if os.path.samestat(os.fstat(folder), self._status):
                give_tree(folder, owner)
        finally:
            os.close(folder)

    def _is_switched(self) -> bool:
        try:
            return self._status is not None and os.path.samestat(os.stat(self._deployment.path), self._status)
        except FileNotFoundError:
            return False


@contextmanager
def open_transaction(
    deployment: LockedDeployment, size: int, before: Record | None, generation: int | None = None
) -> Iterator[Transaction]:
    """Open a transaction for a new generation, and roll it back when the block fails, even after the switch.

    Warns when the previous state can't be restored.

    Args:
        deployment: The deployment, which is locked.
        size: Bytes that must be free on its disk.
        before: The current deployment, which is to be replaced, or None.
        generation: The number of the new generation; None for the next one.

    Raises:
        DestinationError: Less than ``size`` bytes are free.
        OSError: The staging folder can't be created.
    """
    new = Transaction(deployment, before, deployment.next_generation() if generation is None else generation)
    try:
        new.open(size)
        yield new
    except BaseException:
        try:
            retry_on_interrupt(new.rollback)
        except (OSError, DestinationError) as problem:
            deployment.reporter.warn(f"{deployment.path} could not be restored: {problem}")
        raise
