"""The state of a deployment: a destination and its state directory, the names in it, and queries.

The state directory of ``NAME`` is ``.NAME.envpack``, beside it on the same filesystem. It exists only while a
command changes the deployment or previous generations exist::

    lock       held by every command that changes the deployment; the kernel releases it with the process
    new-G      staging: generation G being written, which no other process uses
    next-G     ready: generation G, whole, about to be exchanged with NAME; after that, for an instant, the tree
               that NAME was
    G          a previous generation, with NAME's path written into its files
    trash-N    trash: a tree that is being removed
    switching  journal of an exchange, where the filesystem can't exchange two names (deployment.swap)
    aside      displaced: the tree that NAME was, during such an exchange
    moving     only while a deployment is copied here from another filesystem: where it came from
    placing    only in an `InPlace` one: the names that are moved into the destination

The generation of a tree is in its own record. Therefore, wherever a command was stopped, the names and records are
enough for the next command to recover (deployment.recovery); nothing else has to be written.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envpack.runtime.deployment.protected_paths import check_destination, current_user
from envpack.runtime.deployment.record import Record, read_record
from envpack.runtime.errors import DestinationError, failed_path, path_hint
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.mounts import is_mount_point
from envpack.runtime.fs.paths import check_links, exists, is_folder, sibling_path
from envpack.runtime.fs.working_directory import absolute
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import refuse_generation

TREE_MODE = 0o775
"""The permission bits of the folder of a deployment, less the umask: never writable by all users, also under the
umask 000, as they could put other programs into it."""

LOCK = "lock"
STAGING, READY, TRASH = "new-", "next-", "trash-"
"""The start of the names of trees that are being written, that are whole and ready, and that are being removed."""

SWAP_JOURNAL, DISPLACED = "switching", "aside"
COPY_JOURNAL = "moving"
PLACE_JOURNAL = "placing"


@dataclass(frozen=True)
class Kept:
    """A previous generation that still exists: its folder and its record."""

    path: Path
    record: Record


class DeploymentState:
    """A destination, whether it exists or not, and its state directory, to read; `exclusive` gives one to change.

    Attributes:
        path: The path of the destination; links in its parents are resolved.
        given: The absolute path of the destination, as it was given. It is written into the files: where it leads
            through a link, such as an automounted home, that name is the one that is the same on all hosts.
        state_dir: The path of the state directory.
    """

    def __init__(self, destination: Path) -> None:
        self.given = absolute(destination)
        self.path = Path(os.path.realpath(self.given.parent)) / self.given.name
        self.state_dir = sibling_path(self.path, "envpack") if self.path.name else self.path

    @property
    def in_place(self) -> bool:
        """Whether the state directory is inside the destination; see `InPlace`."""
        return self.state_dir.parent == self.path

    def current(self) -> Record | None:
        """Return the record of the current deployment; None where there is none, or something else.

        Raises OSError when it can't be read.
        """
        return read_record(self.path) if is_folder(self.path) else None

    def kept(self) -> list[Kept]:
        """Return the previous generations, the newest first; raise OSError when they can't be read."""
        found = []
        for path in self.entries():
            if path.name.isdecimal() or path.name.startswith(READY):
                record = read_record(path)
                if record is not None and path.name != f"{READY}{record.generation}":
                    found.append(Kept(path, record))
        return sorted(found, key=lambda kept: -kept.record.generation)

    def kept_in_sight(self) -> list[Kept]:
        """Return `kept`; none where the state directory is closed to this user, as while another user deploys.

        For commands that only show a deployment. Raises OSError when one can't be read for another reason.
        """
        with suppress(PermissionError):
            return self.kept()
        return []

    def is_named(self, prefix: str | None) -> bool:
        """Return whether a prefix is the path of this destination, by whatever name; False for None and ""."""
        if not prefix or not os.path.isabs(prefix):
            return False
        return prefix in (str(self.path), str(self.given)) or DeploymentState(Path(prefix)).path == self.path

    def generation_path(self, generation: int) -> Path:
        """Return the path of a previous generation in the state directory, whether it exists or not."""
        return self.state_dir / str(generation)

    def trees(self) -> list[Path]:
        """Return the folders of the current deployment and the previous generations: all that may be in use.

        Raises OSError when they can't be read.
        """
        return [*([self.path] if is_folder(self.path) else []), *(kept.path for kept in self.kept())]

    def entries(self) -> list[Path]:
        """Return the paths of everything in the state directory, sorted by name; raise OSError on failure."""
        try:
            return [self.state_dir / name for name in sorted(os.listdir(self.state_dir))]
        except (FileNotFoundError, NotADirectoryError):  # `exclusive` refuses a file
            return []

    def placed(self) -> list[str]:
        """Return the names that a deployment in place moves, or has moved, into the destination."""
        try:
            names = json_value(read_file(self.state_dir / PLACE_JOURNAL))
        except (OSError, ValueError):
            return []
        return (
            [name for name in names if isinstance(name, str) and "/" not in name and name.strip(".")]
            if isinstance(names, list)
            else []
        )

    def others(self) -> set[str]:
        """Return the names in the destination, less those of a stopped deployment in place. Raises OSError."""
        own = {self.state_dir.name, *self.placed()} if self.in_place else set()
        return set(os.listdir(self.path)) - own

    def next_generation(self) -> int:
        """Return the next generation: one more than any in records, their histories, and the state directory."""
        records = [kept.record for kept in self.kept()]
        current = self.current()
        if current is not None:
            records.append(current)
        known = [record.generation for record in records]
        known += [item.generation for record in records for item in record.history]
        known += [int(path.name) for path in self.entries() if path.name.isdecimal()]
        return max(known, default=0) + 1

    def occupied(self) -> str:
        """Return why nothing can be deployed here, such as a file at the path; "" when a deployment is possible.

        Raises DestinationError when the path can't be read.
        """
        path = self.path
        if not path.name:
            return f"{path} can't be a destination"
        if path.is_symlink():
            return f"{path} exists and is a symbolic link to {os.readlink(path)}"
        try:
            if not exists(path):
                return ""
            if not is_folder(path):
                return f"{path} exists and is not a directory"
            if not self.in_place and is_mount_point(path):
                return f"{path} is a mount point, which can't be replaced atomically"
            if self.current() is None and self.others():
                return f"{path} exists, is not empty and is not a deployment; it was not changed"
        except OSError as problem:
            message = f"{failed_path(problem, path)}: {problem.strerror}"
            raise DestinationError(message, hint=path_hint(problem)) from None
        return ""

    def require_free_or_deployed(self, root_home: bool = False) -> None:
        """Raise DestinationError when the path is protected, or occupied by something else than a deployment."""
        check_links(self.given.parent)
        refuse_generation(self.path)
        check_destination(str(self.path), current_user(), root_home)
        reason = self.occupied()
        if reason:
            hint = "Choose another destination, or remove it first."
            if self.path.is_symlink():
                hint = "Give the path that the link leads to, or deploy to another path and then switch the link."
            raise DestinationError(reason, hint=hint)

    def require_known(self) -> None:
        """Raise DestinationError when there is neither a deployment nor a state directory."""
        check_links(self.given.parent)
        refuse_generation(self.path)
        reason = self.occupied()
        if not reason and self.current() is None and not is_folder(self.state_dir):
            reason = f"nothing is deployed at {self.path}"
        if reason:
            hint = "Run 'envpack list' to see the deployments on this host."
            if self.path.is_symlink():
                hint = "Give the path that the link leads to."
            raise DestinationError(reason, hint=hint)


class InPlace(DeploymentState):
    """A directory of this user in a parent that this user can't write to: an administrator made it.

    It can't be replaced, so its state directory is inside it, and a new tree is moved into it name by name, the
    folder with the record last: until then it is no deployment. It can be deployed to while it is empty, repaired,
    and emptied again; there are no previous generations.
    """

    NAME = ".deploying.envpack"

    def __init__(self, destination: Path) -> None:
        super().__init__(destination)
        self._beside, self.state_dir = self.state_dir, self.path / self.NAME

    def is_only_way(self) -> bool:
        """Return whether the destination is such a directory; False when it can't be read."""
        try:
            return (
                is_folder(self.path)
                and os.stat(self.path).st_uid == os.geteuid()
                and os.access(self.path, os.W_OK | os.X_OK)
                and not os.access(self.path.parent, os.W_OK | os.X_OK)
                and not exists(self._beside)
            )
        except OSError:
            return False

    def is_possible(self) -> bool:
        """Return whether a bundle can be deployed there: it is empty; False when it can't be read."""
        try:
            return self.is_only_way() and self.current() is None and not self.others()
        except OSError:
            return False

    def impossible(self) -> DestinationError:
        """Return the error for what needs the parent: an upgrade, a rollback, a move."""
        return DestinationError(
            f"{self.path} can't be replaced or moved, because you can't write to {self.path.parent}",
            hint="Ask for permission to write there. Or remove the deployment, which leaves the empty directory, "
            f"and deploy to it again: envpack remove {shlex.quote(str(self.given))}",
        )


def state_of(destination: Path) -> DeploymentState:
    """Return the state of a deployment to repair or remove: one in place where there is no other way."""
    in_place = InPlace(destination)
    return in_place if in_place.is_only_way() else DeploymentState(destination)


def warn_of_replaced_directory(state: DeploymentState, reporter: Reporter) -> None:
    """Warn that the current directory, which was at the destination, is not there any more: it was replaced."""
    place = str(state.given)
    reporter.warn(f"the current directory is the one that was at {place} before; run: cd {shlex.quote(place)}")
