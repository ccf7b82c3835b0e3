"""The paths around a file on which its stored form depends; each lookup is recorded."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from envpack.prefix.model import Answer, Group
from envpack.prefix.scan.prefix_aliases import longer_names

_MOST_LINKS = 8


@dataclass(frozen=True)
class Layout:
    """The paths of an environment, as far as the stored form of a file depends on them.

    Attributes:
        paths: All its files and links.
        links: The targets of its symbolic links, by path.
        linked: Files that a link in another folder leads to, perhaps through further links.
    """

    paths: frozenset[str]
    links: Mapping[str, str]
    linked: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[Group]) -> Layout:
        """Return the layout of the environment with these groups."""
        entries = [entry for group in groups for entry in group.entries]
        links = {entry.path: entry.target for entry in entries if entry.type == "symlink"}
        layout = cls(frozenset(entry.path for entry in entries), links, frozenset())
        others = [(entry.path, entry.target) for entry in entries if entry.type == "hardlink"]
        others += [(path, to) for path in links for to in layout._behind(path)]
        linked = {to for path, to in others if posixpath.dirname(path) != posixpath.dirname(to)}
        return replace(layout, linked=frozenset(linked))

    def _behind(self, path: str) -> Iterator[str]:
        """Yield the paths that a link leads to, one link after another, those to folders included."""
        for _ in range(_MOST_LINKS):
            path = self._target(path) if path in self.links else self._below_link(path)
            if not path:
                return
            yield path

    def _target(self, link: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(link), self.links[link]))

    def _below_link(self, path: str) -> str:
        """Return the path that a path below a link to a folder leads to; "" for a path below none."""
        folder = next((path[:at] for at, c in enumerate(path) if c == "/" and path[:at] in self.links), "")
        return posixpath.normpath(self._target(folder) + path[len(folder) :]) if folder else ""

    def has(self, path: str) -> bool:
        """Return whether the environment has a path, perhaps below a link to a folder."""
        for _ in range(_MOST_LINKS):
            if path in self.paths:
                return True
            path = self._below_link(path)
        return False

    def holds(self, folder: str) -> bool:
        """Return whether the environment has something in a folder, perhaps behind links to it; "." is its own."""
        return any(path in self._folders for path in (folder, *self._behind(folder)))

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(posixpath.dirname(path) or "." for path in self.paths)

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the names of all its files and links, without their folders."""
        return frozenset(map(posixpath.basename, self.paths))


class Surroundings:
    """The environment and the folder that it is in.

    Args:
        prefix: The environment's path.
        groups: The groups of the environment.
        aliases: All paths of the prefix.
    """

    def __init__(self, prefix: Path, groups: Sequence[Group], aliases: Sequence[bytes]) -> None:
        self._prefix, self._groups, self._aliases = prefix, groups, aliases

    @cached_property
    def layout(self) -> Layout:
        """Return the layout of the environment."""
        return Layout.of(self._groups)

    @cached_property
    def longer(self) -> tuple[bytes, ...]:
        """Return the paths that exist and begin with a path of the prefix, without a slash behind it."""
        return longer_names(self._aliases)

    def answer(self, question: str) -> Answer:
        """Return the answer to a question that `Place` records."""
        kind, _, path = question.partition(" ")
        if kind == "longer":
            return list(map(os.fsdecode, self.longer))
        if kind == "linked":
            return path in self.layout.linked
        if kind == "source":  # a folder is none, whatever its name ends in: etc/fonts/conf.d
            return os.path.isfile(self._prefix / path)
        if kind == "holds":
            return self.layout.holds(path)
        if kind == "name":
            return path in self.layout.names
        return self.layout.has(path)


@dataclass(frozen=True)
class Place:
    """The place of a file.

    Attributes:
        path: The file's path, relative to the prefix.
        around: What is around it.
        asked: The questions that were asked so far, with the answers.
    """

    path: str
    around: Surroundings
    asked: dict[str, Answer] = field(default_factory=dict)

    def _ask(self, question: str) -> Answer:
        if question not in self.asked:
            self.asked[question] = self.around.answer(question)
        return self.asked[question]

    def has(self, path: str) -> bool:
        """Return whether the environment has a path."""
        return bool(self._ask(f"has {path}"))

    def holds(self, folder: str) -> bool:
        """Return whether the environment has something in a folder."""
        return bool(self._ask(f"holds {folder}"))

    def has_name(self, name: str) -> bool:
        """Return whether a file of the environment, in whatever folder, has this name."""
        return bool(self._ask(f"name {name}"))

    def has_source(self, path: str) -> bool:
        """Return whether the environment has a file with a source or a header, perhaps one that is not packed."""
        return bool(self._ask(f"source {path}"))

    @property
    def linked(self) -> bool:
        """Return whether a link in another folder leads to the file."""
        return bool(self._ask(f"linked {self.path}"))

    @property
    def longer(self) -> tuple[bytes, ...]:
        """Return the paths that exist and begin with a path of the prefix, without a slash behind it."""
        self._ask("longer")
        return self.around.longer
