"""Editable installs: imports from folders outside of the environment, and the files in it that cause them.

Sources: the "Recording the Direct URL Origin" specification on packaging.python.org (direct_url.json), PEP 660 and
the files its backends write, Lib/site.py of CPython (the meaning of a line of a .pth file), and setuptools'
develop command (.egg-link, easy-install.pth).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from envpack.prefix.owners.pypi import Read, read_distribution
from envpack.runtime.fs.json_text import json_value


@dataclass(frozen=True)
class Editable:
    """An editable install: Python imports it from a folder outside of the environment.

    Attributes:
        name: The distribution's name, or that of the file that refers to it.
        source: The folder outside of the environment.
        evidence: The path in the environment that names ``source``.
        project: The folder to build a wheel from; "" when that is unknown.
        paths: The paths in the environment that belong to this install alone.
        lines: The lines that belong to it in files shared with others, by path.
    """

    name: str
    source: str
    evidence: str
    project: str = ""
    paths: tuple[str, ...] = ()
    lines: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}: {self.source} ({self.evidence})"


# Modules that .pth files import: of setuptools, editables (hatchling, pdm), scikit-build-core, meson-python.
_FINDER = re.compile(r"__editable___\w+_finder|_editable_impl_\w+|_\w+_editable(?:_loader)?")
_IMPORTED = re.compile(r"\bimport\s+(\w+)")
_PATH = re.compile(r"'(/[^'\n]+)'|\"(/[^\"\n]+)\"")
_SCRIPT = re.compile(rb"^# EASY-INSTALL-(?:ENTRY-|DEV-)?SCRIPT: '([^',=]+)", re.MULTILINE)
_HEAD = 400


def find_editable(
    prefix: str, paths: Iterable[str], sites: Iterable[str], read: Read, lies_inside: Callable[[str], bool]
) -> list[Editable]:
    """Return the editable installs of an environment, sorted by name.

    An install is returned only if its source exists: without it, the original environment can't import it either.

    Args:
        prefix: The environment's folder.
        paths: All paths of the environment, relative to ``prefix``.
        sites: The site-packages folders to search, relative to ``prefix``.
        read: Returns the bytes of a path relative to ``prefix``.
        lies_inside: Returns whether an absolute path is the environment's own, under any of its names. Sources
            there are packed with it, and not returned.
    """
    found: list[Editable] = []
    known = set(paths)
    for site in sites:
        start, below = f"{site}/", len(site) + 1
        here = sorted(path for path in known if path.startswith(start) and "/" not in path[below:])
        outside = _Outside(f"{prefix}/{site}", site, read, lies_inside)
        direct = list(_direct(known, outside))
        linked = list(_egg_links(here, known, outside))
        explained = {
            (path, line) for editable in linked for path in editable.lines for line in editable.lines[path]
        }
        taken = {path for editable in direct for path in editable.paths}
        found += direct + linked
        for path in here:
            if path.endswith(".pth") and path not in taken:
                found += _path_file(path, outside, explained)
    return sorted(found, key=lambda editable: (editable.name, editable.evidence))


@dataclass(frozen=True)
class _Outside:
    place: str
    site: str
    read: Read
    lies_inside: Callable[[str], bool]

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "surrogateescape")

    def __call__(self, path: str) -> str:
        """Return the absolute path of something that exists outside of the environment; "" for anything else."""
        path = posixpath.normpath(posixpath.join(self.place, path))
        return path if os.path.exists(path) and not self.lies_inside(path) else ""


def _direct(known: set[str], outside: _Outside) -> Iterator[Editable]:
    """Yield the distributions whose direct_url.json says that they are editable."""
    for path in sorted(path for path in known if path.endswith(".dist-info/direct_url.json")):
        folder = posixpath.dirname(path)
        if posixpath.dirname(folder) != outside.site:
            continue
        try:
            document = json_value(outside.text(path))
            editable = document["dir_info"]["editable"] is True
            source = unquote(urlsplit(document["url"]).path, errors="surrogateescape")
        except (ValueError, KeyError, TypeError):
            continue
        if editable and posixpath.isabs(source) and outside(source):
            inside = [other for other in known if other.startswith(f"{folder}/")]
            distribution = read_distribution(folder, inside, outside.read)
            own = tuple(sorted(known.intersection(distribution.claims)))
            yield Editable(distribution.package.name, source, path, source, own)


def _egg_links(here: Sequence[str], known: set[str], outside: _Outside) -> Iterator[Editable]:
    """Yield the installs of ``setup.py develop``, which leaves a link, a line in easy-install.pth, and scripts."""
    scripts: dict[str, list[str]] | None = None
    for path in here:
        if not path.endswith(".egg-link"):
            continue
        lines = outside.text(path).splitlines()
        source = lines[0].strip() if lines else ""
        if not (posixpath.isabs(source) and outside(source)):
            continue
        if scripts is None:
            scripts = _develop_scripts(known, outside.read)
        name = posixpath.basename(path).removesuffix(".egg-link")
        project = posixpath.normpath(posixpath.join(source, lines[1].strip() if len(lines) > 1 else "."))
        easy = f"{outside.site}/easy-install.pth"
        shared = {easy: frozenset({source})} if easy in known else {}
        yield Editable(name, source, path, project, (path, *scripts.get(name, ())), shared)


def _develop_scripts(known: set[str], read: Read) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(known):
        if path.startswith("bin/"):
            script = _SCRIPT.search(read(path)[:_HEAD])
            if script:
                found.setdefault(script[1].decode("utf-8", "replace"), []).append(path)
    return found


def _path_file(path: str, outside: _Outside, explained: set[tuple[str, str]]) -> Iterator[Editable]:
    """Yield the installs of those lines of a .pth file that lead out, read as Lib/site.py does."""
    name = posixpath.basename(path).removesuffix(".pth")
    for line in outside.text(path).splitlines():
        entry = line.strip()
        if not entry or entry.startswith("#") or (path, entry) in explained:
            continue
        if entry.startswith(("import ", "import\t")):
            yield from _finder(path, entry, outside)
        elif source := outside(entry):
            yield Editable(name, source, path, _project(source), lines={path: frozenset({entry})})


def _finder(path: str, line: str, outside: _Outside) -> Iterator[Editable]:
    for module in _IMPORTED.findall(line):
        if not _FINDER.fullmatch(module):
            continue
        source = f"{outside.site}/{module}.py"
        try:
            text = outside.text(source)
        except OSError:
            continue
        named = [match[1] or match[2] for match in _PATH.finditer(text)]
        leading = [source for entry in named if (source := outside(entry))]
        if leading:
            yield Editable(module, leading[0], path, _project(leading[0]), (path, source))


def _project(folder: str) -> str:
    """Return the folder, or its parent, if a wheel can be built from it; "" when neither is a project."""
    for place in (folder, posixpath.dirname(folder)):
        if any(os.path.isfile(f"{place}/{name}") for name in ("pyproject.toml", "setup.py")):
            return place
    return ""


def without_lines(text: str, lines: frozenset[str]) -> str:
    """Return the text of a .pth file without ``lines``; "" when no line is left that has an effect."""
    kept = [line for line in text.splitlines(keepends=True) if line.strip() not in lines]
    does = [line for line in kept if line.strip() and not line.startswith(("#", "import sys; "))]
    return "".join(kept) if does else ""
