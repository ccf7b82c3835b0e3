"""The rules for a paths table: it describes one tree inside one folder, and agrees with its manifest.

No check here reads the disk: all are done before the first file is written.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, Mapping

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.layout import OWN_FOLDER, OWN_PATHS
from envpack.runtime.format.limits import MAX_DEPTH, MAX_FOLDERS, MAX_LINKS, MAX_NAME, MAX_PATH
from envpack.runtime.format.manifest import Manifest, PathRecord, PathsTable

_TEMPORARY_NAME = re.compile(r"\.(.*\.)?envpack-.*\Z|\..*\.envpack\Z", re.DOTALL)
"""Names of envpack's temporary files and folders: see ``sibling_path`` in ``envpack.runtime.fs.paths``."""


def check_bundle_tree(manifest: Manifest, table: PathsTable) -> None:
    """Check the table as `check_tree` does, and that its sizes and counts are those of the manifest.

    Raises:
        IntegrityError: a rule is broken, or table and manifest disagree.
    """
    check_tree(table, [segment.id for segment in manifest.segments], manifest.changes.outside)
    # a segment deployed from another tool's archive has no frames
    sizes = {segment.id: segment.size for segment in manifest.segments if segment.frames}
    for id, records in table.segments.items():
        stated = sum(record.size for record in records)
        if stated > sizes.get(id, stated):
            raise IntegrityError(f"segment {id!r} has {sizes[id]:,} bytes unpacked, but its files have {stated:,}")
    size = sum(record.size for record in table)
    if size != manifest.size:
        raise IntegrityError(f"the files have {size:,} bytes, but the manifest states {manifest.size:,}")
    files = sum(map(len, table.segments.values()))
    if files != manifest.files:
        raise IntegrityError(f"there are {files:,} paths, but the manifest states {manifest.files:,}")
    rooms = [(r.relocation.max_prefix_length, r.path) for r in table if r.relocation is not None]
    least, path = min(((room, path) for room, path in rooms if room is not None), default=(None, ""))
    if least is not None and (manifest.longest_prefix is None or manifest.longest_prefix > least):
        raise IntegrityError(f"{path!r} allows a path of {least} bytes, less than the manifest states")


def check_tree(table: PathsTable, segments: Iterable[str], outside: Iterable[str] = ()) -> None:
    """Check that a table describes one tree inside one folder.

    Args:
        table: the paths table.
        segments: ids of the manifest's segments.
        outside: paths of the links that are allowed to lead out of the environment.

    Raises:
        IntegrityError: a path is listed twice, lies below something that is no folder, or is reserved for envpack;
            a link that is not in ``outside`` leads out of the environment, in one step or several; or the manifest
            has no such segment.
    """
    unknown = set(table.segments) - set(segments)
    if unknown:
        raise IntegrityError(
            f"the paths table has {len(unknown):,} segments that are not in the manifest: {min(unknown)!r}"
        )
    leaves: set[str] = set()
    for records in table.segments.values():
        _check_segment(records, leaves)
    _check_folders(table, leaves)
    allowed = set(outside)
    links = {record.path: record.target for record in table if record.type == "symlink"}
    for path in leading_out(links, allowed):
        raise IntegrityError(f"the link {path!r} points outside the environment: {links[path]!r}")


def _check_segment(records: Iterable[PathRecord], leaves: set[str]) -> None:
    linked: dict[str, int] = {}
    for record in records:
        path = record.path
        if path in leaves:
            raise IntegrityError(f"the bundle has the path {path!r} twice")
        _check_name(record)
        leaves.add(path)
        if record.type == "file":
            linked[path] = 0
        elif record.type == "hardlink":
            if record.target not in linked:
                raise IntegrityError(
                    f"the hard link {path!r} comes before its file {record.target!r}, or that does not exist"
                )
            linked[record.target] += 1
            if linked[record.target] > MAX_LINKS:
                raise IntegrityError(f"{record.target!r} has more than {MAX_LINKS:,} hard links")


def _check_name(record: PathRecord) -> None:
    path = record.path
    if path in OWN_PATHS or path == OWN_FOLDER:
        raise IntegrityError(f"the bundle replaces envpack's own {path}")
    if path.startswith(OWN_FOLDER + "/") and (record.type != "file" or "/." in path):
        raise IntegrityError(
            f"{path!r} is not a regular file with a simple name, which is required in {OWN_FOLDER}"
        )
    wrong = forbidden_reason(path)
    if wrong:
        raise IntegrityError(wrong)


def forbidden_reason(path: str) -> str:
    """Return the reason why no bundle may have a path of this name; "" for an allowed path."""
    wrong = length_reason(path)
    if wrong:
        return wrong
    if "envpack" in path and any(map(_TEMPORARY_NAME.match, path.split("/"))):
        return f"{path!r} has a name that envpack reserves for its temporary files"
    return ""


def length_reason(path: str) -> str:
    """Return the reason why a path is too long or too deep for a bundle; "" for one that is not."""
    parts = path.split("/", MAX_DEPTH)
    if len(parts) > MAX_DEPTH or (len(path) > MAX_PATH // 4 and len(_bytes(path)) > MAX_PATH):
        parts = path.split("/")
        return f"a path of {len(parts)} parts and {len(_bytes(path)):,} bytes: {path[:40]!r}..."
    for part in parts:
        if len(part) > MAX_NAME // 4 and len(_bytes(part)) > MAX_NAME:
            return f"a name of {len(_bytes(part)):,} bytes: {part[:40]!r}..."
    return ""


def _check_folders(table: PathsTable, leaves: set[str]) -> None:
    """Check that no path lies below a file or link, and that there are not too many folders."""
    folders = {record.path for record in table if record.type == "directory"}
    for path in leaves:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in leaves:
                raise IntegrityError(f"the bundle has {path!r} below {parent!r}, which is not a directory")
            folders.add(parent)
            parent = parent.rpartition("/")[0]
        if len(folders) > MAX_FOLDERS:
            raise IntegrityError(f"there are more than {MAX_FOLDERS:,} directories")


def leads_out(path: str, target: str) -> bool:
    """Return whether the text of a link's target leads out of the environment, for a link at ``path``.

    Links that the target may pass through are not followed.
    """
    if target.startswith("/") or not target:
        return True
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in ("", "."):
            depth += 1
    return False


def leading_out(links: Mapping[str, str], allowed: Iterable[str]) -> Iterator[str]:
    """Iterate over the paths of the links that lead out of the environment and are not allowed to.

    A target with ``..`` after a name is followed step by step, because the name may be a link, and ``..`` is then
    the parent of another folder. All other targets are checked as text.

    Args:
        links: target of each link, by path; no path may lie below a link.
        allowed: links that may lead out; links that pass through one of them may, too.
    """
    free = set(allowed)
    known: dict[str, str | None] = {}
    for path, target in links.items():
        if path not in free and (
            leads_out(path, target) or (_climbs(target) and _climbs_out(path, links, free, known))
        ):
            yield path


def _climbs(target: str) -> bool:
    """Return whether ``..`` follows a name in the target."""
    while target.startswith("../"):
        target = target[3:].lstrip("/")
    return "/.." in target


def _climbs_out(start: str, links: Mapping[str, str], free: set[str], known: dict[str, str | None]) -> bool:
    """Follow the link ``start`` as the kernel would; return whether it leads out of the environment.

    ``known`` maps each link followed so far to the path it leads to, None for one without a path in the
    environment: each link is followed once, however many links pass through it.
    """
    stack = [_Walk(start, links[start])]
    in_progress = {start}
    while stack:
        walk = stack[-1]
        passed = walk.go(links)
        if passed == _OUT:
            known.update((each.link, None) for each in stack)
            return True
        if passed is None:
            known[walk.link] = walk.at
            in_progress.discard(walk.link)
            stack.pop()
        elif passed in free or passed in in_progress or (passed in known and known[passed] is None):
            known.update((each.link, None) for each in stack)  # a loop, or through a link that may lead out
            return False
        elif passed in known:
            walk.at = str(known[passed])
        else:
            stack.append(_Walk(passed, links[passed]))
            in_progress.add(passed)
            walk.again(passed)
    return False


_OUT = "/"


class _Walk:
    """The resolution of one link's target: ``at`` is the folder reached, `_todo` the components still ahead."""

    def __init__(self, link: str, target: str) -> None:
        self.link = link
        self.at = link.rpartition("/")[0]
        self._todo = [part for part in reversed(target.split("/")) if part not in ("", ".")]
        if target.startswith("/"):
            self._todo = [".."] * MAX_PATH

    def go(self, links: Mapping[str, str]) -> str | None:
        """Walk on to the next link and return its path; None at the end, `_OUT` outside of the environment."""
        while self._todo:
            part = self._todo.pop()
            if part == "..":
                if not self.at:
                    return _OUT
                self.at = self.at.rpartition("/")[0]
                continue
            path = f"{self.at}/{part}" if self.at else part
            if path in links:
                return path
            self.at = path
        return None

    def again(self, link: str) -> None:
        """Let the next `go` begin with ``link`` again."""
        self._todo.append(link.rpartition("/")[2])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
