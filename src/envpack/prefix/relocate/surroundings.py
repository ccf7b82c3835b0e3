"""The paths around a file on which its stored form depends; each lookup is recorded."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
        linked: Files that a link in another folder leads to.
    """

    paths: frozenset[str]
    links: Mapping[str, str]
    linked: frozenset[str]

    @classmethod
    def of(cls, groups: Iterable[Group]) -> Layout:
        """Return the layout of the environment with these groups."""
        entries = [entry for group in groups for entry in group.entries]
        links = {entry.path: entry.target for entry in entries if entry.type == "symlink"}
        others = {
            path: posixpath.normpath(posixpath.join(posixpath.dirname(path), to)) for path, to in links.items()
        }
        others.update({entry.path: entry.target for entry in entries if entry.type == "hardlink"})
        linked = (to for path, to in others.items() if posixpath.dirname(path) != posixpath.dirname(to))
        return cls(frozenset(entry.path for entry in entries), links, frozenset(linked))

    def has(self, path: str) -> bool:
        """Return whether the environment has a path, perhaps below a link to a folder."""
        for _ in range(_MOST_LINKS):
            if path in self.paths:
                return True
            folder = next((path[:at] for at, c in enumerate(path) if c == "/" and path[:at] in self.links), "")
            if not folder:
                return False
            target = posixpath.join(posixpath.dirname(folder), self.links[folder])
            path = posixpath.normpath(target + path[len(folder) :])
        return False


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
        return self.layout.has(path) or (kind == "source" and os.path.lexists(self._prefix / path))


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

    def has_source(self, path: str) -> bool:
        """Return whether the environment has a source or a header, perhaps one that is not packed."""
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
