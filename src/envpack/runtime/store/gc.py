"""``gc``: removal of the segments of a store that no deployment uses any more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from envpack.runtime.errors import DestinationError, FormatError, failed_path
from envpack.runtime.format.layout import DIGEST_PATH
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import exists, remove_tree, sibling_path
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.store.store import Store, open_store


@dataclass(frozen=True)
class Collected:
    """The result of gc.

    Args:
        store: The path of the store.
        removed: The number of segments that were removed, or would be in a dry run.
        kept: The number of segments that stay.
        freed: Bytes of disk that are free now: files of removed segments to which no deployment has a link.
        size: Bytes of disk of the segments that stay.
        deployments: Destinations that use the store.
        forgotten: Destinations that do not exist any more, or use nothing of the store any more.
        dry_run: Nothing was removed or changed.
    """

    store: str
    removed: int
    kept: int
    freed: int
    size: int
    deployments: tuple[str, ...]
    forgotten: tuple[str, ...]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.gc/1``, for JSON."""
        return {**vars(self), "deployments": list(self.deployments), "forgotten": list(self.forgotten)}


def collect(path: Path, *, reporter: Reporter, dry_run: bool = False, any_parent: bool = False) -> Collected:
    """Remove the segments of a store that are not used, and what killed processes have left.

    A segment stays when a current deployment or a previous generation uses it, and none of its files was written
    to. Waits for deployments that use the store at the moment. A deployment that was moved by hand keeps its
    files; but the store no longer knows that it uses them.

    Args:
        path: The folder of the store.
        reporter: Receives a note when there is something to wait for, and the progress in segments.
        dry_run: Only find out what would be removed; change nothing.
        any_parent: Allow root to work where other users could replace the store.

    Raises:
        FormatError: There is no store at ``path``.
        DestinationError: The store can't be written to.
    """
    if not (Path(os.path.expanduser(path)) / "1").is_dir():
        raise FormatError(f"{path} is not a store", hint="Give the directory that 'envpack deploy --store' uses.")
    store = open_store(path, any_parent=any_parent)
    if store.is_in_use():
        reporter.note(f"waiting for other envpack processes that use the store {store.path}")
    with store.exclusive(), reporter.step("Removing unused segments", unit="segments") as step:
        try:
            done = _collect(store, dry_run)
        except OSError as problem:
            raise DestinationError(
                f"can't remove from the store {store.path}: {problem.strerror}: {failed_path(problem)}"
            ) from None
        step.detail = f"{done.removed} of {done.removed + done.kept} segments, {human_size(done.freed)}"
    return done


def _collect(store: Store, dry_run: bool) -> Collected:
    used: set[str] = set()
    deployments: list[str] = []
    forgotten: list[str] = []
    for file in sorted(store.roots.glob("*.json")):
        root = store.root(file)
        if root is None:
            if not dry_run:
                os.unlink(file)
            continue
        destination, manifests = root
        present = manifests_at(Path(destination))
        alive = {digest: keys for digest, keys in manifests.items() if present is None or digest in present}
        used.update(key for keys in alive.values() for key in keys)
        (deployments if alive else forgotten).append(destination)
        if dry_run or len(alive) == len(manifests):
            continue
        if alive:
            store.write_root(Path(destination), alive)
        else:
            os.unlink(file)
    damaged = store.damaged_keys()
    removed, kept, freed, size = 0, 0, 0, 0
    for folder in _segments(store):
        free, total = _sizes(folder)
        if folder.name in used and folder.name not in damaged:
            kept, size = kept + 1, size + total
            continue
        removed, freed = removed + 1, freed + free
        if not dry_run:
            _discard(store, folder)
    if not dry_run:
        for name in damaged:
            os.unlink(store.damaged / name)
        for path in store.roots.glob(".*.new"):
            os.unlink(path)  # of a process that was killed
        _clear(store.work)
    return Collected(str(store.path), removed, kept, freed, size, tuple(deployments), tuple(forgotten), dry_run)


def manifests_at(destination: Path) -> set[str] | None:
    """Return the digests of the manifests of all trees at a destination and in its state directory.

    Returns None when these can't be read, as in another user's folder.
    """
    try:
        folders = [destination]
        side = sibling_path(destination, "envpack")
        if exists(side):
            folders += [side / name for name in os.listdir(side)]
        lines = (folder / DIGEST_PATH for folder in folders if exists(folder / DIGEST_PATH))
        return {read_file(line, 64).decode("ascii", "replace") for line in lines}
    except OSError:
        return None


def _segments(store: Store) -> Iterator[Path]:
    for parent in sorted(store.segments.iterdir()):
        store.require_trusted(parent)
        for folder in sorted(parent.iterdir()):
            store.require_trusted(folder)
            yield folder


def _sizes(folder: Path) -> tuple[int, int]:
    """Return the bytes of disk that removing a segment frees, and the bytes that its files use."""
    free = total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            taken = facts.st_blocks * 512  # POSIX, <sys/stat.h>: Linux counts in 512 bytes
            total += taken
            free += taken if facts.st_nlink == 1 else 0
    return free, total


def _discard(store: Store, folder: Path) -> None:
    """Move a segment to the trash by one rename, and then remove it."""
    trash = store.work / f"trash-{folder.name}"
    if trash.exists():
        remove_tree(trash)
    os.rename(folder, trash)
    remove_tree(trash)


def _clear(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(Path(entry.path))
            else:
                os.unlink(entry.path)
