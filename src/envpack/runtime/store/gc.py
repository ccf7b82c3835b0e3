"""``gc``: removing from a store what no deployment uses any more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from envpack.runtime.errors import DestinationError, FormatError
from envpack.runtime.format.layout import DIGEST_PATH
from envpack.runtime.fs.paths import beside, remove_tree
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.store.store import Store, open_store


@dataclass(frozen=True)
class Collected:
    """What gc found in ``store``, and did unless it was a ``dry_run``.

    ``removed``, ``kept``: segments; ``freed``: bytes of disk that are free now: files of removed segments that no
    deployment has a link to; ``size``: bytes of disk of the segments that are kept; ``deployments``: destinations
    that use it; ``forgotten``: destinations that are gone, or use nothing of it any more.
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
        """JSON's view: the ``result`` of ``envpack.gc/1``."""
        return {**vars(self), "deployments": list(self.deployments), "forgotten": list(self.forgotten)}


def collect(path: Path, *, reporter: Reporter, dry_run: bool = False) -> Collected:
    """Removes every segment of the store at ``path`` that no current or kept deployment uses, those that somebody
    has written to, and what killed processes have left.

    Waits for deployments at work on the store. A deployment that was moved by hand keeps its files; it is only not
    known to use the store any more. Raises FormatError when there is no store, DestinationError when it can't be
    written to.
    """
    if not (Path(os.path.expanduser(path)) / "1").is_dir():
        raise FormatError(f"{path} is no store", hint="Give the folder that 'envpack deploy --store' was given.")
    store = open_store(path)
    if store.is_in_use():
        reporter.note(f"waiting for deployments that use the store {store.path}")
    with store.alone(), reporter.step("Removing what nothing uses", unit="segments") as step:
        try:
            done = _collect(store, dry_run)
        except OSError as problem:
            raise DestinationError(
                f"can't remove from the store {store.path}: {problem.strerror}: {problem.filename}"
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
    damaged = set(os.listdir(store.damaged))
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
    """The digests of the manifests of all trees at a destination and beside it; None when that can't be told, as
    in somebody else's folder."""
    try:
        folders = [destination]
        side = beside(destination, "envpack")
        if _is_there(side):
            folders += [side / name for name in os.listdir(side)]
        lines = (folder / DIGEST_PATH for folder in folders if _is_there(folder / DIGEST_PATH))
        return {line.read_text(encoding="ascii", errors="replace")[:64] for line in lines}
    except OSError:
        return None


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _segments(store: Store) -> Iterator[Path]:
    for parent in sorted(store.segments.iterdir()):
        yield from sorted(parent.iterdir())


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes of disk that removing a segment frees, and that its files take."""
    free = total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            taken = facts.st_blocks * 512  # POSIX, <sys/stat.h>: Linux counts in 512 bytes
            total += taken
            free += taken if facts.st_nlink == 1 else 0
    return free, total


def _discard(store: Store, folder: Path) -> None:
    """Not there any more at once, and then removed."""
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
