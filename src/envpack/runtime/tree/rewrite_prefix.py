"""The prefix rewrite of a tree that is already unpacked: after a plain ``tar -x``, or after a move.

Only the files that the paths table lists as relocated are read. Each is verified before it is replaced: converted
back to its stored bytes, it must have the digest of its record. All files are written to temporary siblings first,
and then renamed over the old ones: a full disk changes nothing, and a running interpreter is no obstacle. The next
call completes a rewrite that was interrupted at any point, with the help of a journal.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import DestinationError, EnvpackError, IntegrityError, failed_path
from envpack.runtime.format.layout import LOCK_PATH, OWN_FOLDER, PREFIX_PATH
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.fs.atomic import ReplaceBatch, remove_temporary, status_of_file
from envpack.runtime.fs.io import open_regular
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.sync import sync_filesystem, sync_folder
from envpack.runtime.relocation.files import deployed_bytes, stored_bytes
from envpack.runtime.report import Reporter, Step
from envpack.runtime.tree.conda_digests import CondaDigests, conda_records
from envpack.runtime.tree.head import allows_room, read_head
from envpack.runtime.tree.journal import Journal
from envpack.runtime.tree.prefix import (
    check_prefix,
    installed_prefix,
    own_prefix,
    refuse_generation,
    warn_activation_needed,
)

_HISTORY = "conda-meta/history"
"""conda appends what it does to this file; the paths in its former commands are history, too."""


@dataclass(frozen=True)
class RewriteResult:
    """The result of :func:`rewrite_prefix`.

    Attributes:
        prefix: the prefix that the files contain now.
        former: the installed prefix before, or None.
        written: number of relocated files that contain the prefix now; 0 when the prefix was installed already.
        changed: paths of the relocated files that were left as they are, changed or removed after the deployment.
    """

    prefix: str
    former: str | None
    written: int
    changed: tuple[str, ...]


def rewrite_prefix(root: Path, reporter: Reporter, *, prefix: str = "", durable: bool = False) -> RewriteResult:
    """Rewrite the installed prefix of the unpacked tree at ``root``, atomically and restartably.

    Does nothing when the prefix is installed already. Several processes may call it at the same time.

    Args:
        root: folder of the tree.
        reporter: where progress, notes and warnings go.
        prefix: the prefix to write; "" for the one that is installed, if it leads to ``root``, else the real path
            of ``root``.
        durable: sync the new files to the disk before the prefix is recorded as installed.

    Raises:
        RelocationError: the prefix is too long or has unsafe characters.
        FormatError: ``root`` is no tree that envpack unpacked.
        IntegrityError: the manifest or the paths table was changed, or files are damaged in a tree in which no
            prefix was ever installed, so that no user can have changed them.
        DestinationError: the tree can't be written to, or is a previous generation.
    """
    root = Path(os.path.realpath(root))
    if not prefix:
        refuse_generation(root)
        prefix = own_prefix(root) or str(root)
    if installed_prefix(root) == prefix:
        if Journal(root).exists():
            clear_pending_rewrite(root)
        return RewriteResult(prefix, prefix, 0, ())
    manifest, table, _ = read_head(root)
    check_bundle_tree(manifest, table)  # a plain tar -x checks nothing
    check_prefix(manifest, prefix, any_length=allows_room(root))
    if not os.access((root / LOCK_PATH).parent, os.W_OK | os.X_OK):
        raise DestinationError(
            f"the path {prefix} can't be written into its files: no permission, or a read-only disk",
            hint=_by_its_owner(root),
        )
    with locked(root / LOCK_PATH, wait=True, warn=reporter.warn):
        previous = installed_prefix(root)
        if previous == prefix:
            return RewriteResult(prefix, prefix, 0, ())
        rewrite = PrefixRewrite(root, table, prefix, previous)
        with reporter.step(f"Writing the path {prefix} into files", len(rewrite.records), "files") as step:
            with _os_errors_as_destination_error(root):
                rewrite.run(step, durable)
            step.detail = f"{rewrite.written} files"
        warn_activation_needed(table, os.fsencode(prefix), reporter)
        for path in rewrite.changed:
            if path != _HISTORY and os.path.lexists(root / path):  # a removed file has no path in it
                reporter.warn(f"{path} was changed after its deployment; the path in it was not rewritten")
        if rewrite.installed_later:
            reporter.warn(
                "files of packages that conda installed here still contain the old path; reinstall them: "
                f"conda install --force-reinstall {' '.join(rewrite.installed_later)}"
            )
        return RewriteResult(prefix, previous, rewrite.written, tuple(rewrite.changed))


@contextmanager
def _os_errors_as_destination_error(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't write the path into the files: {problem.strerror}: {failed_path(problem, root)}",
            hint=_by_its_owner(root),
        ) from None


def _by_its_owner(root: Path) -> str:
    """Return what to do where this user can't write to the tree."""
    uid = (root / PREFIX_PATH).parent.stat().st_uid
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    program = shlex.quote(str(root / "bin/conda-unpack"))
    return f"Run {program} once as its owner ({owner}), on a disk that can be written. Then others can use it."


class PrefixRewrite:
    """One rewrite of a tree's prefix: `prepare`, then `commit`; after a failure `abort`. The tree must be locked.

    Args:
        root: folder of the tree.
        table: its paths table.
        prefix: the prefix to write.
        previous: the installed prefix, or None.

    Attributes:
        records: the relocated files.
        changed: paths of those that are left as they are, changed or removed after the deployment.
    """

    def __init__(self, root: Path, table: PathsTable, prefix: str, previous: str | None) -> None:
        self.records = [record for record in table if record.relocation is not None]
        self.changed: list[str] = []
        self._root, self._previous = root, previous
        self._journal = Journal(root)
        was_completed, pending = self._journal.read()
        self._was_completed = was_completed or previous is not None
        self._prefixes = list(dict.fromkeys([prefix, *([previous] if previous is not None else []), *pending]))
        self._base = os.fsencode(root) + b"/"
        self._links = _hard_links(table)
        self._digests = CondaDigests(root, table)
        self._files, self._prefix_file = ReplaceBatch(), ReplaceBatch()
        self._is_resumed = self._journal.exists()
        self._is_committing = False

    @property
    def installed_later(self) -> list[str]:
        """Packages that conda installed in the deployment, with files that still contain the former prefix."""
        return self._digests.others if self._previous is not None else []

    @property
    def written(self) -> int:
        """The number of files that contain the prefix after `commit`."""
        return len(self.records) - len(self.changed)

    def run(self, step: Step, durable: bool) -> None:
        """Rewrite the prefix; on any failure the tree is as before, or the next rewrite completes this one.

        Args:
            step: advanced by one for each file.
            durable: sync the new files to the disk before the prefix is recorded as installed.

        Raises:
            OSError: a file can't be read or written.
            IntegrityError: files are damaged, and no prefix was ever installed.
        """
        try:
            self.prepare(step, durable)
            self.commit(durable)
        except BaseException:
            self.abort()
            raise
        self._journal.remove()

    def prepare(self, step: Step, durable: bool) -> None:
        """Write the journal and all new files, these to temporary siblings: no later step needs disk space."""
        self._journal.write(self._was_completed, self._prefixes)
        prefixes = [os.fsencode(prefix) for prefix in self._prefixes]
        for record in self.records:
            paths = [self._base + os.fsencode(path) for path in (record.path, *self._links[record.path])]
            if self._is_resumed:
                for path in paths:
                    remove_temporary(path)
            if not _renew(self._files, self._digests, record, prefixes, *paths):
                self.changed.append(record.path)
            step.advance()
        self._renew_conda_records()
        if self.changed and not self._was_completed:
            raise IntegrityError(f"{len(self.changed)} files differ from the bundle", details=self.changed)
        prefix_path = self._base + os.fsencode(PREFIX_PATH)
        before = status_of_file(self._root / PREFIX_PATH) or os.stat(self._root / OWN_FOLDER)
        mode = 0o664 & before.st_mode
        temporary = self._prefix_file.file(prefix_path, prefixes[0] + b"\n", mode, owner=before)
        sync_folder(Path(os.fsdecode(temporary)))
        if durable:
            sync_filesystem(self._root)

    def _renew_conda_records(self) -> None:
        if self._is_resumed:
            for path in conda_records(self._root):
                remove_temporary(self._base + os.fsencode(path))
        for path, data in self._digests.changed():
            place = self._base + os.fsencode(path)
            facts = os.stat(place)
            self._files.file(place, data, facts.st_mode & 0o777, int(facts.st_mtime), facts)

    def commit(self, durable: bool) -> None:
        """Rename the new files over the old ones, and record the prefix as installed.

        Meanwhile no prefix counts as installed, not even when the tree is moved back.
        """
        self._is_committing = True
        if self._previous is not None:
            os.unlink(self._root / PREFIX_PATH)
        self._files.put()
        if durable:
            sync_filesystem(self._root)
        self._prefix_file.put()
        sync_folder((self._root / PREFIX_PATH).parent)

    def abort(self) -> None:
        """Remove the temporary siblings, and the journal unless files may contain different prefixes."""
        dropped = [self._files.drop(), self._prefix_file.drop()]
        if all(dropped) and not self._is_resumed and not self._is_committing:
            self._journal.remove()


def clear_pending_rewrite(root: Path) -> None:
    """Remove the journal and temporary files of a `rewrite_prefix` stopped before its first change or at its end.

    Does nothing when no prefix is installed; errors are ignored.
    """
    with suppress(OSError, EnvpackError), locked(root / LOCK_PATH, wait=True):
        if installed_prefix(root) is not None:
            paths = [
                record.path
                for record in read_head(root).table
                if record.relocation is not None or record.type == "hardlink"
            ]
            for path in (*paths, *conda_records(root), PREFIX_PATH):
                remove_temporary(os.fsencode(root) + b"/" + os.fsencode(path))
            Journal(root).remove()


def _renew(
    new: ReplaceBatch,
    digests: CondaDigests,
    record: PathRecord,
    prefixes: list[bytes],
    path: bytes,
    *links: bytes,
) -> bool:
    """Write the file at ``path`` with the first of the ``prefixes`` to a temporary sibling, and its hard links.

    Returns False, and writes nothing, when the file does not exist or its stored bytes can't be restored with any
    of the prefixes or the placeholder.
    """
    try:
        data, status = _read(path)
    except FileNotFoundError:
        return False
    stored = stored_bytes(data, record.relocation, record.sha256, prefixes)
    if stored is None:
        return False
    written = _with_prefix(stored, record, prefixes[0])
    if record.path in digests.paths:
        former = prefixes[1:]
        digests.add(record.path, written, lambda: [data, *(_with_prefix(stored, record, old) for old in former)])
    source = path if written == data else new.file(path, written, status.st_mode & 0o777, record.mtime, status)
    for link in links:
        if source is not path or not (os.path.exists(link) and os.path.samefile(path, link)):
            new.link(source, link)
    return True


def _with_prefix(stored: bytes, record: PathRecord, prefix: bytes) -> bytes:
    return b"".join(deployed_bytes([stored], record.relocation, record.size, prefix, record.path))


def _read(path: bytes) -> tuple[bytes, os.stat_result]:
    """Return the bytes and the status of a file; raise OSError when it can't be read."""
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        return file.read(), os.fstat(file.fileno())


def _hard_links(table: PathsTable) -> dict[str, list[str]]:
    links: dict[str, list[str]] = defaultdict(list)
    for record in table:
        if record.type == "hardlink":
            links[record.target].append(record.path)
    return links
