"""The tree of an environment as it lies on disk: every path once, links followed only on request."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from envpack.prefix.owners.conda_meta import SKIPPED
from envpack.prefix.owners.softlinks import is_within, linked_folders
from envpack.runtime.activation import scripts
from envpack.runtime.errors import PackError
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.fs.copy import CAPABILITIES
from envpack.runtime.fs.io import READ
from envpack.runtime.report import Reporter

GENERATED = frozenset(path for path in scripts() if not path.startswith(f"{OWN_FOLDER}/"))
"""Paths of the scripts that every bundle brings itself; the environment's own files are not packed under these
names."""


Outside = Literal["error", "follow", "keep"]
"""Treatment of links that lead out of the environment: refuse them, replace them by what they lead to, or pack
them unchanged."""


class FileStat(NamedTuple):
    """The few values of a file's status that are used; the whole status took 16 MB more for 46,000 files.

    Attributes:
        executable: Whether any execute bit is set.
        size: Size in bytes.
        stamp: Time of the last change to the bytes, and to the status, in nanoseconds since 1970, and the inode.
        device: The device of the inode; None for a file with one name only.
    """

    executable: bool
    size: int
    stamp: tuple[int, int, int]
    device: int | None


def file_stat(status: os.stat_result) -> FileStat:
    """Return the values that are used of a status."""
    stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    device = status.st_dev if status.st_nlink > 1 else None
    return FileStat(status.st_mode & 0o111 != 0, status.st_size, stamp, device)


@dataclass
class Tree:
    """The paths of an environment.

    Attributes:
        files: Status of the files, by path.
        links: Targets of the links, by path.
        folders: Permission bits of the empty folders, by path.
        places: Locations of files' bytes, by path, for those that are not at their path.
        generated: The paths of GENERATED that exist.
        outside: Links that lead out of the environment and are packed unchanged.
        excluded: Paths that ``keep`` refused.
        others: Descriptions of the folders that are not part of the environment itself.
        privileged: Files with setuid, setgid or capabilities.
    """

    files: dict[str, FileStat] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    generated: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    privileged: list[str] = field(default_factory=list)


def walk(
    prefix: Path, keep: Callable[[str], bool] | None, names: Sequence[bytes], outside: Outside = "error"
) -> Tree:
    """Read the tree below ``prefix``.

    Left out are envpack's own folder, lock files and leftovers in conda-meta, byte-code folders that are empty,
    and of a base environment the package cache and the other environments. Links of conda into its package cache
    are replaced by their files.

    Args:
        prefix: The environment's folder.
        keep: Returns whether a path is packed; it is called with ``/`` at the end of folders. None packs all.
        names: All paths of the prefix (see `prefix_aliases.aliases`).
        outside: How to treat links that lead out of the environment.

    Raises:
        PackError: Some paths can't be packed: sockets, pipes and devices, unreadable files, links that lead out.
            It lists all of them.
    """
    walker = _Walker(prefix, keep, [(os.fsdecode(name), "") for name in names], outside)
    walker.run()
    problems = walker.problems
    if problems:
        raise PackError(
            f"{len(problems)} path{'s' if len(problems) > 1 else ''} in {prefix} can't be packed",
            hint="Remove them, make them readable, or exclude them."
            + (
                " Use --outside-links follow or keep for links out of the environment." if walker.leads_out else ""
            ),
            details=sorted(problems),
        )
    return walker.tree


def warn_of_privileged(paths: Sequence[str], reporter: Reporter) -> None:
    """Warn of files whose setuid, setgid or capabilities are not packed, if there are any."""
    if paths:
        shown = ", ".join(sorted(paths)[:3]) + (f" and {len(paths) - 3} more" if paths[3:] else "")
        reporter.warn(
            f"setuid, setgid and capabilities are not packed: {shown}; set them after the deployment if a program "
            "needs them"
        )


class _Folder(NamedTuple):
    """A folder to read.

    Attributes:
        path: Its path in the environment.
        place: Its location on disk.
        roots: The folders that links in it may lead into, as pairs (location, path).
    """

    path: str
    place: str
    roots: Sequence[tuple[str, str]]


class _Walker:
    def __init__(
        self,
        prefix: Path,
        keep: Callable[[str], bool] | None,
        roots: Sequence[tuple[str, str]],
        outside: Outside,
    ) -> None:
        self.tree = Tree()
        self.problems: list[str] = []
        self.leads_out = False
        self._prefix, self._keep, self._outside = prefix, keep, outside
        self._user = os.geteuid()
        self._cache: tuple[str, ...] | None = None
        self._pending = [_Folder("", str(prefix), roots)]

    def run(self) -> None:
        while self._pending:
            self._folder(self._pending.pop())

    def _keeps(self, path: str) -> bool:
        return self._keep is None or self._keep(path)

    def _folder(self, folder: _Folder) -> None:
        try:
            # by descriptor, otherwise the kernel looks up the whole path for each file's status
            descriptor = os.open(folder.place, READ | os.O_DIRECTORY)
            try:
                with os.scandir(descriptor) as listing:
                    self._children(folder, list(listing))
            finally:
                os.close(descriptor)
        except OSError as problem:
            if self._keeps(f"{folder.path}/"):
                self.problems.append(f"{folder.path or '.'}: {problem.strerror}")

    def _children(self, folder: _Folder, children: Sequence[os.DirEntry[str]]) -> None:
        path = folder.path
        if not children and path and posixpath.basename(path) != "__pycache__" and self._keeps(f"{path}/"):
            self.tree.folders[path] = stat.S_IMODE(os.lstat(folder.place).st_mode)
        start, place = f"{path}/" if path else "", f"{folder.place}/"
        for child in children:
            below = start + child.name
            if child.is_dir(follow_symlinks=False):
                other = _other_tree(self._prefix, below)
                if other:
                    self.tree.others.append(other)
                elif below != OWN_FOLDER:
                    self._pending.append(_Folder(below, place + child.name, folder.roots))
            elif _is_leftover(path, child.name):
                continue
            elif below in GENERATED:
                self.tree.generated.append(below)
            elif not self._keeps(below):
                self.tree.excluded.add(below)
            elif child.is_symlink():
                self._link(below, place + child.name, folder)
            else:
                self._file(below, place + child.name, child.stat(follow_symlinks=False), folder)

    def _file(
        self, path: str, place: str, status: os.stat_result, folder: _Folder, *, elsewhere: bool = False
    ) -> None:
        if not stat.S_ISREG(status.st_mode):
            self.problems.append(f"{path}: is a {_kind(status.st_mode)}")
        elif not _readable(place, status, self._user):
            self.problems.append(f"{path}: Permission denied")
        else:
            self.tree.files[path] = file_stat(status)
            if _is_privileged(place, status):
                self.tree.privileged.append(path)
            if elsewhere or folder.roots[0][1]:
                self.tree.places[path] = place

    def _link(self, path: str, place: str, folder: _Folder) -> None:
        target = os.readlink(place)
        inner = _inner_target(folder, target)
        if inner is not None:
            self.tree.links[path] = inner
        elif self._is_in_package_cache(place, target):
            self._follow(path, place, folder)
        elif self._outside == "keep":
            self.tree.links[path] = posixpath.normpath(posixpath.join(folder.place, target))
            self.tree.outside.append(path)
        elif self._outside == "follow":
            self._follow(path, place, folder)
        else:
            self.leads_out = True
            self.problems.append(f"{path}: links to {target}, outside the environment")

    def _is_in_package_cache(self, place: str, target: str) -> bool:
        if self._cache is None:  # links that lead out are rare
            self._cache = linked_folders(self._prefix)
        return is_within(target, self._cache) and is_within(os.path.realpath(place), self._cache)

    def _follow(self, path: str, place: str, folder: _Folder) -> None:
        real = os.path.realpath(place)
        try:
            status = os.stat(real)
        except OSError as problem:
            self.problems.append(f"{path}: links to {os.readlink(place)}: {problem.strerror}")
            return
        if not stat.S_ISDIR(status.st_mode):
            self._file(path, real, status, folder, elsewhere=True)
        elif any(f"{root}/".startswith(f"{real.rstrip('/')}/") for root, _ in folder.roots):
            self.problems.append(f"{path}: links to {real}, which contains the link")
        else:
            self._pending.append(_Folder(path, real, [(real, path), *folder.roots]))


def _is_leftover(folder: str, name: str) -> bool:
    if folder == "conda-meta":
        return name.endswith((".lock", ".c~")) or name in SKIPPED
    return (not folder and name in _TAGS) or name.endswith(".conda_trash")


_TAGS = (".conda_envs_dir_test", "CACHEDIR.TAG")
"""rattler marks the environments it makes as a cache, for backups to skip (bford.info/cachedir); a deployment is
none."""


def _other_tree(prefix: Path, path: str) -> str:
    """Describe a top-level folder that is not part of the environment itself; return "" for any other folder."""
    if path not in ("pkgs", "envs"):
        return ""
    place = prefix / path
    if path == "pkgs" and any((place / name).exists() for name in ("urls.txt", "urls", "cache")):
        return "pkgs, the package cache"
    if path == "envs":
        names = sorted(child.name for child in _children(place) if (child / "conda-meta").is_dir())
        if names or (place / ".conda_envs_dir_test").exists():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            return "envs, other environments" + (f": {', '.join(names[:_NAMED])}{more}" if names else "")
    return ""


_NAMED = 3


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


def _is_privileged(place: str, status: os.stat_result) -> bool:
    """Return whether a file has setuid, setgid or capabilities (capabilities(7))."""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID) or not status.st_mode & 0o111:
        return status.st_mode & (stat.S_ISUID | stat.S_ISGID) != 0
    try:
        return bool(os.getxattr(place, CAPABILITIES, follow_symlinks=False))
    except OSError:
        return False


def _readable(path: str, status: os.stat_result, effective_user: int) -> bool:
    if effective_user == 0 or (status.st_uid == effective_user and status.st_mode & stat.S_IRUSR):
        return True
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _inner_target(folder: _Folder, target: str) -> str | None:
    """Return the relative target of a link in ``folder``; None when it leads out of the environment.

    The target need not exist.
    """
    root, at = folder.roots[0]
    if not target.startswith("/"):
        joined = posixpath.normpath(posixpath.join(posixpath.relpath(folder.path or ".", at or "."), target))
        if joined != ".." and not joined.startswith("../"):
            return target
        target = posixpath.join(folder.place if at else posixpath.join(root, folder.path), target)
    target = posixpath.normpath(target)
    real = posixpath.join(os.path.realpath(posixpath.dirname(target)), posixpath.basename(target))
    for place, roots in ((target, folder.roots), (real, folder.roots)):
        for root, at in roots:
            if place == root or place.startswith(f"{root}/"):
                inner = posixpath.normpath(posixpath.join(at, posixpath.relpath(place, root)))
                return posixpath.relpath(inner, folder.path or ".")
    return None
