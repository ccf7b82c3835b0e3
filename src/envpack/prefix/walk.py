"""The tree of an environment as it lies on disk: every path once, links never followed."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envpack.prefix.conda_meta import SKIPPED
from envpack.runtime.activation import scripts
from envpack.runtime.errors import PackError

GENERATED = frozenset(path for path in scripts() if path.startswith("bin/"))
"""What every bundle brings itself, whatever stands there in the environment."""


@dataclass
class Tree:
    """``files``: their lstat by path; ``links``: their targets by path, ``folders``: the modes of empty ones.

    ``generated``: which of GENERATED exist. ``excluded``: paths that ``keep`` refused.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    generated: list[str] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)


def walk(prefix: Path, keep: Callable[[str], bool] | None, names: Sequence[bytes]) -> Tree:
    """Reads the tree below ``prefix``; ``names`` are its spellings.

    Left out: envpack's own folder, lock files and leftovers in conda-meta, byte-code folders that are empty,
    and of a base environment the package cache and the other environments. Raises PackError listing
    everything that can't be packed: sockets, pipes and devices, what can't be read, links that lead out.
    """
    tree = Tree()
    problems: list[str] = []
    roots = [os.fsdecode(name) for name in names]
    effective_user = os.geteuid()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(posixpath.join(prefix, folder)) as listing:
                children = list(listing)
        except OSError as problem:
            if keep is None or keep(folder):
                problems.append(f"{folder or '.'}: {problem.strerror}")
            continue
        if not children and folder and posixpath.basename(folder) != "__pycache__":
            if keep is None or keep(folder):
                tree.folders[folder] = stat.S_IMODE(os.lstat(posixpath.join(prefix, folder)).st_mode)
            continue
        for child in children:
            path = f"{folder}/{child.name}" if folder else child.name
            if child.is_dir(follow_symlinks=False):
                if not _is_foreign_tree(prefix, path):
                    pending.append(path)
            elif _is_leftover(folder, child.name):
                continue
            elif path in GENERATED:
                tree.generated.append(path)
            elif keep is not None and not keep(path):
                tree.excluded.add(path)
            elif child.is_symlink():
                target = _inner_target(path, os.readlink(child.path), roots)
                if target is None:
                    problems.append(f"{path}: links to {os.readlink(child.path)}, outside the environment")
                else:
                    tree.links[path] = target
            else:
                facts = child.stat(follow_symlinks=False)
                if not stat.S_ISREG(facts.st_mode):
                    problems.append(f"{path}: is a {_kind(facts.st_mode)}")
                elif not _readable(child.path, facts, effective_user):
                    problems.append(f"{path}: Permission denied")
                else:
                    tree.files[path] = facts
    if problems:
        raise PackError(
            f"{len(problems)} path{'s' if len(problems) > 1 else ''} in {prefix} can't be packed",
            hint="Remove them, make them readable, or exclude them.",
            details=sorted(problems),
        )
    return tree


def _is_leftover(folder: str, name: str) -> bool:
    if folder == "conda-meta":
        return name.endswith((".lock", ".c~")) or name in SKIPPED
    return name == ".conda_envs_dir_test" or name.endswith(".conda_trash")


def _is_foreign_tree(prefix: Path, path: str) -> bool:
    """Folders at the top that are no part of the environment itself."""
    if path == ".envpack":
        return True
    place = prefix / path
    if path == "pkgs":
        return any((place / name).exists() for name in ("urls.txt", "urls", "cache"))
    if path == "envs":
        return (place / ".conda_envs_dir_test").exists() or any(
            (child / "conda-meta").is_dir() for child in _children(place)
        )
    return False


def _children(place: Path) -> Iterator[Path]:
    try:
        yield from place.iterdir()
    except OSError:
        return


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISSOCK, "socket"), (stat.S_ISFIFO, "pipe"), (stat.S_ISCHR, "device")):
        if test(mode):
            return name
    return "device"


def _readable(path: str, facts: os.stat_result, effective_user: int) -> bool:
    if effective_user == 0 or (facts.st_uid == effective_user and facts.st_mode & stat.S_IRUSR):
        return True
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _inner_target(path: str, target: str, roots: Sequence[str]) -> str | None:
    """The link's target, relative, when it lies in the prefix (it need not exist); None when it leads out."""
    folder = posixpath.dirname(path)
    if not target.startswith("/"):
        joined = posixpath.normpath(posixpath.join(folder, target))
        if joined != ".." and not joined.startswith("../"):
            return target
        target = posixpath.join(roots[0], folder, target)
    target = posixpath.normpath(target)
    real = posixpath.join(os.path.realpath(posixpath.dirname(target)), posixpath.basename(target))
    for place, root in [(target, root) for root in roots] + [(real, roots[0])]:
        if place == root or place.startswith(root + "/"):
            return posixpath.relpath(place, posixpath.join(root, folder))
    return None
