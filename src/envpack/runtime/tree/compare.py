"""Comparison of a tree on disk with its paths table: finds the paths that differ from the bundle.

It writes nothing and follows no link. A relocated file is converted back to its stored bytes while it is read, so
that memory stays constant; it is unchanged when the result has the digest of its record.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, Sequence

from envpack.runtime.format.layout import (
    OWN_PATHS,
    RUNS_PATH,
)
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.fs.io import READ_UNTRUSTED
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.relocation.files import stored_digest
from envpack.runtime.report import Step
from envpack.runtime.tree.bytecode_files import is_bytecode_file
from envpack.runtime.tree.conda_digests import is_stored_record, may_have_digests

_BATCH = 32
_PIECE = 1 << 20
_KINDS = {"f": "a file", "d": "a directory", "l": "a symbolic link", "o": "a special file"}
_KIND_OF_TYPE = {"file": "f", "hardlink": "f", "directory": "d", "symlink": "l"}
MISSING = "missing"


@dataclass(frozen=True)
class Difference:
    """A path that differs from the bundle; ``reason`` is a phrase such as "other content"."""

    path: str
    reason: str


@dataclass
class Differences:
    """The differences between a tree and its paths table, each list sorted by path.

    Attributes:
        changed: paths that differ from the bundle, or can't be read. A folder that is replaced by something else
            is changed, and the paths below it are missing.
        missing: paths that do not exist.
        extra: files and links that have no record.
    """

    changed: list[Difference] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def compare(root: str, table: PathsTable, prefixes: Sequence[bytes | None], step: Step, jobs: int) -> Differences:
    """Compare the tree at ``root`` with its paths table; paths that can't be read count as changed.

    Args:
        root: folder of the tree.
        table: the paths table.
        prefixes: prefixes that the files may contain; None stands for the placeholder.
        step: progress, advanced by the stored bytes of the files read.
        jobs: number of threads that read files.
    """
    kinds, unreadable = _list(root)
    folders = folders_of(table)
    result = Differences(changed=list(_folder_differences(folders, kinds, unreadable)))
    to_read: list[tuple[PathRecord, PathRecord]] = []
    for record, content in with_content(table):
        found = classify(record, kinds.get(record.path))
        if found == MISSING:
            result.missing.append(record.path)
        elif found:
            if record.path not in folders:
                result.changed.append(Difference(record.path, found))
        elif record.type == "symlink":
            result.changed.extend(_link_differences(root, record))
        elif record.type != "directory":
            to_read.append((record, content))
    check = _Checker(root, prefixes)
    with threads(jobs, "verify") as pool:
        batches = (to_read[start : start + _BATCH] for start in range(0, len(to_read), _BATCH))
        for size, differences in pool.map(check.batch, batches):
            step.advance(size)
            result.changed.extend(differences)
    result.changed.sort(key=lambda item: item.path)
    result.missing.sort()
    result.extra = sorted(_extra(kinds, {record.path for record in table} | folders))
    return result


def classify(record: PathRecord, kind: str | None) -> str:
    """Return how a path differs from its record by its kind alone: a reason, `MISSING`, or "" for no difference.

    Args:
        record: the path's record.
        kind: what the path is: "f" a file, "d" a folder, "l" a symbolic link, "o" another kind; None: nothing.
    """
    if kind is None:
        return MISSING
    expected = _KIND_OF_TYPE[record.type]
    return "" if kind == expected else f"{_KINDS[kind]}, not {_KINDS[expected]}"


def with_content(table: PathsTable) -> Iterator[tuple[PathRecord, PathRecord]]:
    """Yield each record, and the one that describes its content: for a hard link that of its target."""
    for records in table.segments.values():
        files = {record.path: record for record in records if record.type == "file"}
        for record in records:
            yield record, files.get(record.target, record) if record.type == "hardlink" else record


def _folder_differences(
    folders: set[str], kinds: Mapping[str, str], unreadable: Mapping[str, str]
) -> Iterator[Difference]:
    for path in folders:
        if path in kinds and kinds[path] != "d":
            yield Difference(path, f"{_KINDS[kinds[path]]}, not a directory")
        elif path in unreadable:
            yield Difference(path, unreadable[path])


def _extra(kinds: Mapping[str, str], known: set[str]) -> Iterator[str]:
    for path, kind in kinds.items():
        if (
            kind != "d"
            and path not in known
            and path not in OWN_PATHS
            and not path.startswith(f"{RUNS_PATH}/")
            and not is_bytecode_file(path, kinds.__contains__)
        ):
            yield path


def folders_of(table: PathsTable) -> set[str]:
    """Return all folders of the table's tree, including those that have no record of their own."""
    folders: set[str] = set()
    for record in table:
        path = record.path if record.type == "directory" else record.path.rpartition("/")[0]
        while path and path not in folders:
            folders.add(path)
            path = path.rpartition("/")[0]
    return folders


def _list(root: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the kind of every path in a tree, and the reason for each folder that can't be read."""
    kinds: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(f"{root}/{folder}" if folder else root) as listing:
                for entry in listing:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    kinds[path] = _kind(entry)
                    if kinds[path] == "d":
                        pending.append(path)
        except OSError as problem:
            unreadable[folder] = f"can't be read: {problem.strerror}"
    return kinds, unreadable


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "l"
    if entry.is_dir(follow_symlinks=False):
        return "d"
    return "f" if entry.is_file(follow_symlinks=False) else "o"


def _link_differences(root: str, record: PathRecord) -> Iterator[Difference]:
    try:
        target = os.readlink(f"{root}/{record.path}")
    except OSError as problem:
        yield Difference(record.path, f"can't be read: {problem.strerror}")
        return
    if target != record.target:
        yield Difference(record.path, f"links to {target!r}, not to {record.target!r}")


class _Checker:
    def __init__(self, root: str, prefixes: Sequence[bytes | None]) -> None:
        self._root, self._prefixes = root, prefixes

    def batch(self, pairs: Iterable[tuple[PathRecord, PathRecord]]) -> tuple[int, list[Difference]]:
        size = 0
        differences = []
        for record, content in pairs:
            size += content.size
            try:
                reason = self._file(record, content)
            except OSError as problem:
                reason = f"can't be read: {problem.strerror}"
            if reason:
                differences.append(Difference(record.path, reason))
        return size, differences

    def _file(self, record: PathRecord, content: PathRecord) -> str:
        """Return how the file at ``record.path`` differs from ``content``; "" when it does not.

        ``content`` is ``record`` itself, or for a hard link the record of its target.
        """
        fd = os.open(f"{self._root}/{record.path}", READ_UNTRUSTED)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return "not a file"
            if status.st_mode & 0o7000:
                return f"mode {status.st_mode & 0o7777:o}"
            if (status.st_mode ^ content.mode) & 0o100:
                return "executable" if status.st_mode & 0o100 else "not executable"
            if content.relocation is None:
                if may_have_digests(record.path, status.st_size, content.size):
                    data = b"".join(iter(lambda: os.read(fd, _PIECE), b""))
                    return "" if is_stored_record(data, content.sha256) else "other content"
                if status.st_size != content.size:
                    return f"{status.st_size} bytes, not {content.size}"
                return "" if stored_digest(fd, None, content.size, None) == content.sha256 else "other content"
            for prefix in self._prefixes:
                if stored_digest(fd, content.relocation, content.size, prefix) == content.sha256:
                    return ""
            return "other content, or another path in the file"
        finally:
            os.close(fd)
