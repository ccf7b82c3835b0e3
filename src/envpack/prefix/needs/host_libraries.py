"""The libraries that an environment's files are linked to and that only a host can have. Pure.

The loader looks for each library in the folders of DT_RPATH or DT_RUNPATH, in those of the interpreter
(PREFIX/lib), and on the host (ld.so(8)); a library that is loaded already, by whatever path, is used as it is.
Wheels load their libraries that way before their modules (torch, the nvidia wheels, pyarrow), so a library that
lies anywhere in the environment counts as found. The symbol versions it must define are compared with the library
that the loader uses, of several with that name.
"""

from __future__ import annotations

import posixpath
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, cached_property

from envpack.prefix.needs.libraries import Library
from envpack.prefix.needs.rules import table
from envpack.runtime.format.needs import HostLibrary

_SERIES = re.compile(r"(.*?)((?:\d+)(?:\.\d+)*)$")
_ORIGIN = re.compile(r"\$ORIGIN\b|\$\{ORIGIN\}")


def host_libraries(
    libraries: Sequence[Library], files: Iterable[str], prefix: str, is_main: Callable[[str], bool]
) -> list[HostLibrary]:
    """Return the libraries that the host must have, and those of the environment that are too old.

    Args:
        libraries: The ELF files of the environment that may be loaded.
        files: The paths of all libraries in it, and of links to them.
        prefix: The environment's path, for absolute folders in DT_RPATH and DT_RUNPATH.
        is_main: Whether nothing runs where this file can't be loaded. The same holds for the libraries in the
            environment that it is linked to.
    """
    inside = _Inside(libraries, files, prefix)
    main = _with_what_they_load(libraries, inside, is_main)
    wanted: dict[tuple[str, str], dict[str, set[str]]] = {}
    one_of: dict[str, dict[str, list[str]]] = {}
    for library in libraries:
        group = _group(library.path)
        if group:
            one_of.setdefault(group, {})[library.path] = []
        imports: dict[str, set[str]] = {}
        for file, version in library.elf.imports:
            imports.setdefault(file, set()).add(version)
        for name in library.elf.needed:
            if _is_ignored(name):
                continue
            versions = imports.get(name, set())
            found = inside.find(library, name, versions)
            lacking = versions - found[1] if found is not None and found[1] else set()
            if group and found is None:
                one_of[group][library.path].append(name)
            elif (found is None or lacking) and not _is_optional(library.path, name):
                where = found[0] if found is not None else ""
                wanted.setdefault((name, where), {})[library.path] = lacking if where else versions
    alternatives = [_alternatives(members) for members in one_of.values() if all(members.values())]
    return [
        HostLibrary(
            name,
            _source(users),
            versions=newest_versions(set().union(*users.values())),
            main=not main.isdisjoint(users),
            inside=where,
        )
        for (name, where), users in sorted(wanted.items())
    ] + alternatives


def _with_what_they_load(
    libraries: Iterable[Library], inside: _Inside, is_main: Callable[[str], bool]
) -> set[str]:
    """Return the paths of the main libraries, and of those in the environment that the loader loads with them."""
    todo = [library for library in libraries if is_main(library.path)]
    found = {library.path for library in todo}
    while todo:
        library = todo.pop()
        for name in library.elf.needed:
            other = inside.library(library, name)
            if other is not None and other.path not in found:
                found.add(other.path)
                todo.append(other)
    return found


class _Inside:
    """The libraries in the environment, by the names that they can be found by."""

    def __init__(self, libraries: Sequence[Library], files: Iterable[str], prefix: str) -> None:
        prefix = prefix.rstrip("/") + "/"
        self._folders = {library.path: tuple(_folders(library, prefix)) for library in libraries}
        self._read: Mapping[str, Library] = {library.path: library for library in libraries}
        self._paths: dict[str, list[str]] = {}
        for path in files:
            self._paths.setdefault(posixpath.basename(path), []).append(path)
        for library in libraries:
            if library.elf.soname and library.elf.soname != posixpath.basename(library.path):
                self._paths.setdefault(library.elf.soname, []).append(library.path)
        versioned = {file for library in libraries for file, _ in library.elf.imports}
        places = {name: {*map(posixpath.dirname, self._paths.get(name, ()))} for name in versioned}
        self._several = {name for name, folders in places.items() if len(folders) > 1}
        # a link has the contents, and so the symbol versions, of the library with that SONAME
        self._by_soname: dict[str, list[Library]] = {}
        for library in libraries:
            if library.elf.soname:
                self._by_soname.setdefault(library.elf.soname, []).append(library)

    def find(self, user: Library, name: str, versions: Collection[str]) -> tuple[str, set[str]] | None:
        """Return the path of a library, and the symbol versions it defines (none if unknown); None for no library.

        Of several libraries that are in no folder where the loader looks, or of which each is used by another
        program, it is one that defines ``versions``.
        """
        name = posixpath.basename(name)
        paths = self._paths.get(name)
        if not paths:
            return None
        if not versions:
            return paths[0], set()
        used = self._used.get((user.path, name), ("",))
        found = [(path, self._defines(path, name)) for path in (sorted(paths) if "" in used else used)]
        return next((item for item in found if not item[1] or item[1].issuperset(versions)), found[0])

    def library(self, user: Library, name: str) -> Library | None:
        """Return the library with this name that was read, also where the name is that of a link to it."""
        name = posixpath.basename(name)
        named = [self._read[path] for path in self._paths.get(name, ()) if path in self._read]
        named += self._by_soname.get(name, ())
        folders = (*self._folders[user.path], "lib")
        near = (library for folder in folders for library in named if posixpath.dirname(library.path) == folder)
        return next(near, named[0] if named else None)

    @cached_property
    def _used(self) -> Mapping[tuple[str, str], Mapping[str, None]]:
        """The paths of the libraries that are used for a library's path and a name that it is linked to.

        There is one for each program or module of Python that loads the library; "" where nothing is found. Only
        names are in it that lie in several folders, and whose symbol versions matter.
        """
        used: dict[tuple[str, str], dict[str, None]] = {}
        linked = {name for library in self._read.values() for name in map(posixpath.basename, library.elf.needed)}
        roots = sorted(self._read.values(), key=lambda library: not linked.isdisjoint(_names(library)))
        done: set[tuple[object, ...]] = set()
        reached: set[str] = set()
        for root in roots if self._several else ():
            for user, name, path in self._loads(root, done) if root.path not in reached else ():
                reached.add(user.path)
                if name in self._several:
                    used.setdefault((user.path, name), {})[path] = None
        return used

    def _loads(self, root: Library, done: set[tuple[object, ...]]) -> Iterator[tuple[Library, str, str]]:
        """Yield each library that is loaded with ``root``, with a name that it is linked to and the path for it.

        As the loader does it (ld.so(8)): all libraries of one before those of the next; a name that is loaded is
        not looked for again; DT_RPATH also serves what a library loads, except libraries with DT_RUNPATH. What was
        loaded before in the same way is left out: ``done`` has it.
        """
        loaded: dict[str, str] = {}
        todo: deque[tuple[Library, tuple[str, ...]]] = deque([(root, ())])
        while todo:
            user, inherited = todo.popleft()
            way = (user.path, inherited, *map(loaded.get, self._several))
            if way in done:
                continue
            done.add(way)
            own = self._folders[user.path]
            inherited = inherited if user.elf.runpath else tuple(dict.fromkeys(own + inherited))
            for name in map(posixpath.basename, user.elf.needed):
                if not loaded.get(name):
                    loaded[name] = self._first(own if user.elf.runpath else inherited, name)
                    library = self._behind(loaded[name], name)
                    if library is not None:
                        todo.append((library, inherited))
                yield user, name, loaded[name]

    def _first(self, folders: Iterable[str], name: str) -> str:
        """Return the first path of a library with this name in these folders or the interpreter's, else ""."""
        paths = self._paths.get(name, ("",))
        if name not in self._several:
            return paths[0]
        return next(filter(paths.__contains__, (posixpath.join(folder, name) for folder in (*folders, "lib"))), "")

    def _defines(self, path: str, name: str) -> set[str]:
        library = self._behind(path, name)
        return set(library.elf.defines) if library is not None else set()

    def _behind(self, path: str, name: str) -> Library | None:
        """Return the library at a path, also where that is a link in its folder."""
        folder = posixpath.dirname(path)
        same = (item for item in self._by_soname.get(name, ()) if posixpath.dirname(item.path) == folder)
        return self._read.get(path) or next(same, None)


def _names(library: Library) -> set[str]:
    return {posixpath.basename(library.path), library.elf.soname}


def _folders(library: Library, prefix: str) -> Iterator[str]:
    """Yield the folders of the environment in DT_RUNPATH, or in DT_RPATH."""
    origin = posixpath.dirname(library.path)
    for entry in (library.elf.runpath or library.elf.rpath).split(":"):
        if _ORIGIN.match(entry):
            entry = posixpath.normpath(_ORIGIN.sub("./" + origin, entry))
            yield "" if entry == "." else entry
        elif entry.startswith(prefix):
            yield posixpath.normpath(entry[len(prefix) :])


def newest_versions(versions: Iterable[str]) -> tuple[str, ...]:
    """Return the newest version of each series, sorted: a library that defines it defines the older ones."""
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    for version in versions:
        match = _SERIES.fullmatch(version)
        series, numbers = (match[1], match[2]) if match else (version, "0")
        key = tuple(map(int, numbers.split(".")))
        newest[series] = max(newest.get(series, ((), "")), (key, version))
    return tuple(sorted(version for _, version in newest.values()))


@cache
def _is_ignored(name: str) -> bool:
    return any(fnmatchcase(name, glob) for row in table("checked_elsewhere") for glob in row["libraries"])


def _is_optional(path: str, name: str) -> bool:
    return any(
        fnmatchcase("/" + path, row["path"]) and any(fnmatchcase(name, glob) for glob in row.get("needs", ["*"]))
        for row in table("optional")
        if not row.get("one_of")
    )


@cache
def _group(path: str) -> str:
    """Return the rule and the folder of files of which one is loaded; "" for other files."""
    for row in table("optional"):
        if row.get("one_of") and fnmatchcase("/" + path, row["path"]):
            return f"{row['path']} {posixpath.dirname(path)}"
    return ""


def _alternatives(members: Mapping[str, Sequence[str]]) -> HostLibrary:
    """Return the need of files of which one must load: the first library that each of them misses."""
    name, *others = dict.fromkeys(members[path][0] for path in sorted(members))
    return HostLibrary(name, _source(members), alternatives=tuple(others))


def _source(users: Collection[str]) -> str:
    first, *others = sorted(users, key=lambda path: ("site-packages/" not in path, path))
    return f"{first}, and {len(others)} more" if others else first
