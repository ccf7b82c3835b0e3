"""The prefix rewrite of a tree that is already unpacked: after a plain ``tar -x``, or after a move.

Only the files that the paths table lists as relocated are read. Each is verified before it is replaced: converted
back to its stored bytes, it must have the digest of its record. All files are written to temporary siblings first,
and then renamed over the old ones: a full disk changes nothing, and a running interpreter is no obstacle. The next
call completes a rewrite that was interrupted at any point, with the help of a journal.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envpack.runtime.errors import DestinationError, EnvpackError, IntegrityError
from envpack.runtime.format.layout import (
    JOURNAL_PATH,
    LOCK_PATH,
    PREFIX_PATH,
)
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.fs.atomic import ReplaceBatch, remove_temporary, replace_file
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import umask
from envpack.runtime.fs.sync import sync_filesystem, sync_folder
from envpack.runtime.relocation.files import stored_bytes
from envpack.runtime.relocation.relocation import splices
from envpack.runtime.relocation.splice import splice
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.prefix import check_prefix, installed_prefix, pending_rewrite, warn_activation_needed


@dataclass(frozen=True)
class PrefixRewrite:
    """The result of :func:`rewrite_prefix`.

    Attributes:
        prefix: the prefix that the files contain now.
        former: the installed prefix before, or None.
        written: number of relocated files that contain the prefix now; 0 when the prefix was installed already.
        changed: paths of the relocated files that were left unchanged, as they were changed or removed by hand.
    """

    prefix: str
    former: str | None
    written: int
    changed: tuple[str, ...]


def rewrite_prefix(root: Path, reporter: Reporter, *, place: str = "", durable: bool = False) -> PrefixRewrite:
    """Rewrite the installed prefix of the unpacked tree at ``root``, atomically and restartably.

    Does nothing when the prefix is installed already. Several processes may call it at the same time.

    Args:
        root: folder of the tree.
        reporter: where progress, notes and warnings go.
        place: the prefix to write; "" for the real path of ``root``.
        durable: sync the new files to the disk before the prefix is recorded as installed.

    Raises:
        RelocationError: the prefix is too long or has unsafe characters.
        FormatError: ``root`` is no tree that envpack unpacked.
        IntegrityError: the manifest or the paths table was changed, or files are damaged in a tree in which no
            prefix was ever installed, so that no user can have changed them.
        DestinationError: the tree can't be written to.
    """
    root = Path(os.path.realpath(root))
    prefix = place or str(root)
    if installed_prefix(root) == prefix:
        if (root / JOURNAL_PATH).exists():
            forget_begun(root)
        return PrefixRewrite(prefix, prefix, 0, ())
    manifest, table = read_head(root)
    check_bundle_tree(manifest, table)  # a plain tar -x checks nothing
    check_prefix(manifest, prefix)
    with locked(root / LOCK_PATH, wait=True):
        former = installed_prefix(root)
        if former == prefix:
            return PrefixRewrite(prefix, prefix, 0, ())
        was_settled, begun = pending_rewrite(root)
        was_settled = was_settled or former is not None
        prefixes = list(dict.fromkeys([prefix, *([former] if former is not None else []), *begun]))
        relocated = [record for record in table if record.relocation is not None]
        links, coded, base = _hard_links(table), [os.fsencode(each) for each in prefixes], os.fsencode(root)
        changed = []
        with reporter.step(f"Writing the prefix {prefix} in", len(relocated), "files") as step:
            try:
                untouched = not (root / JOURNAL_PATH).exists()
                noted = json.dumps({"settled": was_settled, "prefixes": prefixes}).encode()
                new, new_prefix = ReplaceBatch(), ReplaceBatch()
                try:
                    replace_file(root / JOURNAL_PATH, noted)
                    for record in relocated:
                        paths = [base + b"/" + os.fsencode(path) for path in (record.path, *links[record.path])]
                        if not untouched:
                            for path in paths:
                                remove_temporary(path)
                        if not _renew(new, record, coded, *paths):
                            changed.append(record.path)
                        step.advance()
                    if not was_settled and changed:
                        raise IntegrityError(
                            f"{len(changed)} files are not as the bundle has them", details=changed
                        )
                    place_of_prefix = base + b"/" + os.fsencode(PREFIX_PATH)
                    noted_beside = new_prefix.file(place_of_prefix, coded[0] + b"\n", 0o666 & ~umask())
                    sync_folder(Path(os.fsdecode(noted_beside)))
                    if durable:
                        sync_filesystem(root)
                    # from here to the end no prefix counts as installed, not even when the tree is moved back
                    # meanwhile, and no step needs more disk space
                    untouched = False
                    if former is not None:
                        os.unlink(root / PREFIX_PATH)
                    new.put()
                    if durable:
                        sync_filesystem(root)
                    new_prefix.put()
                except BaseException:
                    dropped = [new.drop(), new_prefix.drop()]
                    if untouched and all(dropped):
                        _unlink_begun(root)
                    raise
                sync_folder((root / PREFIX_PATH).parent)
                _unlink_begun(root)
            except OSError as problem:
                raise DestinationError(
                    f"can't write the prefix in: {problem.strerror}: {problem.filename or root}",
                    hint="Run this once as the user who owns the environment; others can use it afterwards.",
                ) from None
            step.detail = f"{len(relocated) - len(changed)} files"
        warn_activation_needed(table, os.fsencode(prefix), reporter)
        for path in changed:
            reporter.warn(f"{path} was changed or removed by hand, and left as it is")
        return PrefixRewrite(prefix, former, len(relocated) - len(changed), tuple(changed))


def _unlink_begun(root: Path) -> None:
    """Remove the journal; errors are ignored, as it has no meaning once the prefix is installed."""
    with suppress(OSError):
        os.unlink(root / JOURNAL_PATH)


def forget_begun(root: Path) -> None:
    """Remove the journal and temporary files of a `rewrite_prefix` stopped before its first change or at its end.

    Does nothing when no prefix is installed; errors are ignored.
    """
    with suppress(OSError, EnvpackError), locked(root / LOCK_PATH, wait=True):
        if installed_prefix(root) is not None:
            paths = [
                record.path
                for record in read_head(root)[1]
                if record.relocation is not None or record.type == "hardlink"
            ]
            for path in (*paths, PREFIX_PATH):
                remove_temporary(os.fsencode(root) + b"/" + os.fsencode(path))
            _unlink_begun(root)


def _renew(new: ReplaceBatch, record: PathRecord, prefixes: list[bytes], path: bytes, *links: bytes) -> bool:
    """Write the file at ``path`` with the first of the ``prefixes`` to a temporary sibling, and its hard links.

    Returns False, and writes nothing, when the file does not exist or its stored bytes can't be restored with any
    of the prefixes or the placeholder.
    """
    assert record.relocation is not None
    try:
        data, mode = _read(path)
    except FileNotFoundError:
        return False
    stored = stored_bytes(data, record.relocation, record.sha256, prefixes)
    if stored is None:
        return False
    written = splice(stored, splices(record.relocation, prefixes[0]))
    source = path if written == data else new.file(path, written, mode, record.mtime)
    for link in links:
        if source is not path or not (os.path.exists(link) and os.path.samefile(path, link)):
            new.link(source, link)
    return True


def _read(path: bytes) -> tuple[bytes, int]:
    """Return the bytes and permission bits of a file; raise OSError when it can't be read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        facts, pieces = os.fstat(fd), []
        while True:
            pieces.append(os.read(fd, max(facts.st_size, 1)))
            if not pieces[-1]:
                return b"".join(pieces), facts.st_mode & 0o777
    finally:
        os.close(fd)


def _hard_links(table: PathsTable) -> dict[str, list[str]]:
    links: dict[str, list[str]] = defaultdict(list)
    for record in table:
        if record.type == "hardlink":
            links[record.target].append(record.path)
    return links
