"""The treatment of editable installs: refused, removed from the tree, or replaced by wheels of their sources.

The environment itself is never changed: lines are removed only from the packed copy of a .pth file, and wheels
are installed into a folder of their own, and its files are packed as if they were in the environment.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from envpack.prefix.owners.editable import Editable, find_editable, without_lines
from envpack.prefix.owners.pypi import Read
from envpack.prefix.scan.walk import Tree, file_stat
from envpack.runtime.errors import PackError

Install = Callable[[Sequence[Editable], Path], Path]
"""Builds wheels of the installs for the interpreter given, installs them and returns the folder, laid out as a
prefix."""

Policy = Literal["error", "skip"] | Install


@dataclass(frozen=True)
class Handled:
    """The changes that were made for editable installs.

    Attributes:
        left_out: Paths that are not packed.
        contents: Changed bytes of files that are packed, by path.
    """

    left_out: tuple[str, ...] = ()
    contents: dict[str, bytes] = field(default_factory=dict)


def handle_editable(
    tree: Tree, prefix: Path, python: str, version: str, names: Sequence[bytes], read: Read, policy: Policy
) -> Handled:
    """Change ``tree`` for the editable installs in it, as ``policy`` says.

    Args:
        tree: The environment's tree, which is changed.
        prefix: The environment's folder.
        python: Path of the environment's interpreter; "" when there is none, and then nothing is done.
        version: Version of the interpreter. Only its own site-packages are searched, not those of other versions.
        names: All paths of the prefix (see `prefix_aliases.aliases`).
        read: Returns the bytes of a path relative to ``prefix``.
        policy: How to treat editable installs.

    Raises:
        PackError: Editable installs were found and ``policy`` is "error", or no wheel can be built of some. It
            lists all of them.
    """
    if not python:
        return Handled()
    minor = ".".join(version.split(".")[:2])
    folders = {path.rpartition("/")[0] for path in (*tree.files, *tree.links) if path.startswith("lib/")}
    libraries = (f"lib/python{minor}", f"lib/python{minor}t", f"lib/pypy{minor}")
    sites = [f"{folder}/site-packages" for folder in libraries if f"{folder}/site-packages" in folders]
    found = find_editable(str(prefix), tree.files, sites, read, _Inside(names))
    if not found:
        return Handled()
    if policy == "error":
        raise PackError(
            f"{len(found)} editable install{'s point' if len(found) > 1 else ' points'} out of the environment",
            hint="Use --editable wheel to pack them as wheels, or --editable skip to leave them out.",
            details=[str(editable) for editable in found],
        )
    if policy == "skip":
        return _without(tree, found, read)
    hopeless = [editable for editable in found if not editable.project]
    if hopeless:
        raise PackError(
            f"{len(hopeless)} editable install{'s' if len(hopeless) > 1 else ''} can't be built into a wheel: "
            "there is neither a pyproject.toml nor a setup.py",
            hint="Remove them from the .pth file, or use --editable skip to leave all of them out.",
            details=[str(editable) for editable in hopeless],
        )
    overlay = policy(found, prefix / python)
    contents = _without(tree, found, read).contents
    _add(tree, overlay)
    return Handled((), {path: data for path, data in contents.items() if path not in tree.places})


class _Inside:
    def __init__(self, names: Sequence[bytes]) -> None:
        self._roots = [os.fsdecode(name) for name in names]

    def __call__(self, path: str) -> bool:
        places = (path, os.path.realpath(path))
        return any(place == root or place.startswith(f"{root}/") for place in places for root in self._roots)


def _without(tree: Tree, found: Sequence[Editable], read: Read) -> Handled:
    gone = {path for editable in found for path in editable.paths}
    lines: dict[str, frozenset[str]] = {}
    for editable in found:
        for path, own in editable.lines.items():
            lines[path] = lines.get(path, frozenset()) | own
    contents = {}
    for path in lines.keys() - gone:
        rest = without_lines(read(path).decode("utf-8", "surrogateescape"), lines[path])
        if rest:
            contents[path] = rest.encode("utf-8", "surrogateescape")
        else:
            gone.add(path)
    _remove(tree, gone)
    return Handled(tuple(sorted(gone, key=os.fsencode)), contents)


def _remove(tree: Tree, paths: Collection[str]) -> None:
    for path in paths:
        tree.files.pop(path, None)
        tree.links.pop(path, None)
        tree.places.pop(path, None)


def _add(tree: Tree, overlay: Path) -> None:
    """Add the files of installed wheels to the tree."""
    for folder, _, names in os.walk(overlay):
        for name in names:
            place = posixpath.join(folder, name)
            path = posixpath.relpath(place, overlay)
            _remove(tree, [path])
            tree.files[path] = file_stat(os.stat(place))
            tree.places[path] = place
