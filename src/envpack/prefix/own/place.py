"""The place of own files in an environment: what they replace, and what they may not."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from envpack.prefix.model import ENVIRONMENT, Entry, Group, PrefixContents
from envpack.prefix.own.ids import application_path
from envpack.prefix.own.read import sorted_entries
from envpack.runtime.errors import PackError


def import_path(apps: Sequence[str], python: str, paths: Iterable[str]) -> dict[str, Entry]:
    """Return, by the path of each application, the .pth file that lets Python import its modules.

    Its line is relative to the file, so it is right wherever the environment is deployed (docs.python.org, site).
    The directory comes last in ``sys.path``: a module of a package is never replaced by one of the application.

    Args:
        apps: Paths of the applications.
        python: Path of the interpreter, or "" when there is none.
        paths: Paths of the environment.
    """
    if not python:
        return {}
    name = posixpath.basename(python)
    free_threaded = f"lib/{name}t/"
    folder = f"lib/{name}t" if any(path.startswith(free_threaded) for path in paths) else f"lib/{name}"
    folder += "/site-packages"
    found = {}
    for app in apps:
        line = f"{posixpath.relpath(app, folder)}\n".encode()
        path = f"{folder}/envpack-{app.replace('/', '-')}.pth"
        found[app] = Entry(path, "file", size=len(line), content=line)
    return found


def with_import_path(groups: Sequence[Group], python: str, paths: Iterable[str]) -> tuple[Group, ...]:
    """Return the groups of own files, those of applications with their .pth file.

    See `import_path` for the arguments.
    """
    files = import_path(_applications(groups), python, paths)
    return tuple(
        replace(group, entries=sorted_entries((*group.entries, files[app])))
        if (app := application_path(group.id)) in files
        else group
        for group in groups
    )


def _applications(groups: Iterable[Group]) -> list[str]:
    return [app for group in groups if (app := application_path(group.id))]


def add_own_files(
    contents: PrefixContents, groups: Sequence[Group], outside: Sequence[str] = ()
) -> PrefixContents:
    """Return the environment with these groups of own files, and with .pth files for its applications.

    Files of the environment that no package owns are replaced by own files of the same path, and all of them in
    the directory of an application: those of an earlier deployment that is packed again.

    Args:
        contents: The environment.
        groups: Groups of own files, as `read_own_files` returns them.
        outside: Paths of their links that lead out and are packed unchanged.

    Raises:
        PackError: A package has the path of an own file, or files in the directory of an application; the message
            names both.
    """
    if not groups:
        return contents
    groups = with_import_path(groups, contents.python, _paths(contents.groups))
    ours = set(_paths(groups))
    folders = set().union(*map(_parents, ours))
    apps = tuple(f"{app}/" for app in _applications(groups))

    def is_replaced(entry: Entry) -> bool:
        is_filled = entry.type == "directory" and entry.path in folders
        return entry.path in ours or is_filled or entry.path.startswith(apps)

    kept = [
        replace(group, entries=tuple(entry for entry in group.entries if not is_replaced(entry)))
        if group.id == ENVIRONMENT
        else group
        for group in contents.groups
    ]
    check_collisions(((group.id, entry.path, entry.type) for group in kept for entry in group.entries), groups)
    packed = set(_paths(kept))
    links = {path for path in contents.outside if path in packed} | {*outside}
    return replace(
        contents,
        groups=(*kept, *groups),
        foreign=tuple(path for path in contents.foreign if path in packed),
        outside=tuple(sorted(links, key=os.fsencode)),
    )


def check_collisions(known: Iterable[tuple[str, str, str]], groups: Iterable[Group]) -> None:
    """Raise PackError when own files and others have one path, or one is a file where another has a directory.

    Args:
        known: Segment, path and type of everything else.
        groups: Groups of own files.
    """
    owners: dict[str, tuple[str, bool]] = {}
    folders: dict[str, str] = {}

    def add(id: str, path: str, type: str) -> None:
        owners[path] = id, type == "directory"
        for parent in _parents(path):
            if parent in folders:
                break
            folders[parent] = id

    for item in known:
        add(*item)
    problems = []
    for group in groups:
        app = application_path(group.id)
        if app in folders:
            problems.append(f"{app}: the directory of an application, but {folders[app]} has files there")
            continue
        for entry in group.entries:
            above = (path for path in _parents(entry.path) if path in owners and not owners[path][1])
            hit = next((path for path in (entry.path, *above) if path in owners), "")
            if hit:
                problems.append(f"{hit}: in {group.id} and in {owners[hit][0]}")
            elif entry.type != "directory" and entry.path in folders:
                problems.append(f"{entry.path}: in {group.id}, and a directory in {folders[entry.path]}")
        for entry in group.entries:
            add(group.id, entry.path, entry.type)
    problems = list(dict.fromkeys(problems))
    if problems:
        raise PackError(
            f"{len(problems):,} path{'s' if len(problems) > 1 else ''} can't be packed twice",
            hint="Put your own files at another path of the environment.",
            details=problems,
        )


def _paths(groups: Iterable[Group]) -> Iterator[str]:
    return (entry.path for group in groups for entry in group.entries)


def _parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, the lowest one first."""
    while path := path.rpartition("/")[0]:
        yield path
