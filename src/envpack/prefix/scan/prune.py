"""The selection of files that a bundle leaves out: prune profiles, and globs that exclude and include."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

PROTECTED = ("conda-meta/**", "lib/python*/site-packages/*.dist-info/**")
"""Globs that no profile prunes (``exclude`` may): these files record what is installed."""


class Selection:
    """The rules that decide which paths are packed, compiled once; an instance is called with each path.

    Paths are relative to the prefix; those of folders end in ``/``. A path is left out when a profile of ``prune``
    drops it, or when the globs of ``exclude`` do: the last glob that matches decides, and one that begins with
    ``!`` keeps the path. A path that a glob of ``include`` matches is always packed. Globs are those of
    gitignore(5), with ``{a,b}`` added; unlike there, a file can be included again from a folder that is left out.

    Raises:
        KeyError: There is no profile of that name.
    """

    def __init__(
        self, *, exclude: Iterable[str] = (), include: Iterable[str] = (), prune: Iterable[str] = ()
    ) -> None:
        self._profiles = [(name, *_profile(name)) for name in prune]
        self._excluded = [(glob, _pattern((glob.removeprefix("!"),))) for glob in exclude]
        self._included = [(glob, _pattern((glob,))) for glob in include]
        self._protected = _pattern(PROTECTED)
        self._compiling = _pattern(())
        self._matched: set[str] = set()
        self.dropped: Counter[str] = Counter()
        """The number of paths left out by each rule, such as ``prune: docs`` or ``exclude: *.a``."""

    def __bool__(self) -> bool:
        """Return whether there is any rule at all."""
        return bool(self._profiles or self._excluded)

    def __call__(self, path: str) -> bool:
        """Return whether the path is packed, and count it in ``dropped`` when it is not."""
        reason = self.reason(path)
        if reason:
            self.dropped[reason] += 1
        return not reason

    def keep_own(self, path: str) -> bool:
        """Return whether a path of the user's own files is packed: profiles of ``prune`` are for packages."""
        reason = self._excluding(path)
        if reason:
            self.dropped[reason] += 1
        return not reason

    def keep_for_compilers(self, prefix: Path) -> list[str]:
        """Keep what the compilers in a prefix need at run time, and return their names.

        Only `_COMPILING` profiles drop such files.
        """
        return self._keep_compiling(lambda globs: _any_present(prefix, globs))

    def keep_for_compilers_among(self, paths: Collection[str]) -> list[str]:
        """Do the same for an environment of which the paths of all files and links are known."""
        return self._keep_compiling(lambda globs: any(map(_pattern(tuple(globs)).fullmatch, paths)))

    def _keep_compiling(self, present: Callable[[Sequence[str]], bool]) -> list[str]:
        if not any(name in _COMPILING for name, _, _ in self._profiles):
            return []
        found = [row for row in _rules()["compilers"] if present(row["present"])]
        self._compiling = _pattern(tuple(glob for row in found for glob in row["keep"]))
        return [row["name"] for row in found]

    def reason(self, path: str) -> str:
        """Return the rule by which the path is left out; "" when it is packed."""
        return self._excluding(path) or self._pruning(path)

    def idle(self) -> list[str]:
        """Return the globs that matched none of the paths checked so far; most likely they are mistakes."""
        globs = dict.fromkeys(glob for glob, _ in (*self._excluded, *self._included))
        return [glob for glob in globs if glob not in self._matched]

    def _excluding(self, path: str) -> str:
        last = self._matching(self._excluded, path)
        goes = last and not last.startswith("!") and not self._has_back(path)
        return f"exclude: {last}" if goes else ""

    def _pruning(self, path: str) -> str:
        if self._profiles and not self._protected.fullmatch(path):
            for name, drop, keep in self._profiles:
                if drop.fullmatch(path) and not keep.fullmatch(path) and not self._compiling.fullmatch(path):
                    return "" if self._has_back(path) else f"prune: {name}"
        return ""

    def _has_back(self, path: str) -> bool:
        return bool(self._matching(self._included, path))

    def _matching(self, rules: list[tuple[str, re.Pattern[str]]], path: str) -> str:
        """Return the last glob that matches."""
        last = ""
        for glob, pattern in rules:
            if pattern.fullmatch(path):
                self._matched.add(glob)
                last = glob
        return last


def profiles() -> list[str]:
    """Return the names of the profiles."""
    return list(_rules()["profiles"])


_COMPILING = ("headers", "static")


def _any_present(prefix: Path, globs: Iterable[str]) -> bool:
    return any(_exists(prefix, glob.split("/")) for glob in globs)


def _exists(folder: Path, parts: list[str]) -> bool:
    """Return whether a path below ``folder`` matches a glob, given as its parts."""
    if not parts:
        return True
    try:
        names = [parts[0]] if not set(parts[0]) & set("*?[{") else os.listdir(folder)
    except OSError:
        return False
    pattern = re.compile(_translate(parts[0]))
    return any(
        _exists(folder / name, parts[1:]) for name in names if pattern.fullmatch(name) and (folder / name).exists()
    )


@cache
def _rules() -> Any:
    return json.loads(resources.files("envpack.prefix.scan").joinpath("prune.json").read_text(encoding="utf-8"))


@cache
def _profile(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return two patterns of a profile: the paths that it drops, and the exceptions that it keeps."""
    profile = _rules()["profiles"][name]
    drop, keep = (tuple(rule["glob"] for rule in profile[key]) for key in ("drop", "keep"))
    return _pattern(drop), _pattern(keep)


@cache
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for all ``globs``; without any, one that matches nothing."""
    return re.compile("|".join(map(translate, globs)) or _NEVER, re.DOTALL)


_NEVER = r"(?!)"
_WILDCARDS = {"*": "[^/]*", "?": "[^/]"}


def translate(glob: str) -> str:
    """Translate a glob of gitignore(5) to a regular expression for whole paths; those of folders end in ``/``.

    A glob without a slash, or with one at its end only, matches a name in any folder; any other glob matches a
    path from the top. A glob with a slash at the end matches folders only. A glob that matches a folder matches
    all that is in it.
    """
    folder = glob.endswith("/")
    anchored = "/" in glob.rstrip("/")
    body = glob.strip("/").removeprefix("./")
    if not body:
        return _NEVER
    start = "" if anchored else "(?:.*/)?"
    return f"{start}{_translate(body)}{'/.*' if folder else '(?:/.*)?'}"


def _translate(glob: str) -> str:
    out: list[str] = []
    i = depth = 0
    while i < len(glob):
        char = glob[i]
        starts = i == 0 or glob[i - 1] == "/"
        if starts and glob.startswith("**/", i):
            out.append("(?:[^/]+/)*")
            i += 3
            continue
        if starts and glob[i:] == "**":
            out.append(".+")
            break
        if char == "\\" and i + 1 < len(glob):
            out.append(re.escape(glob[i + 1]))
            i += 2
            continue
        if char == "[" and (end := glob.find("]", i + 2)) > 0:
            out.append(_one_of(glob[i + 1 : end]))
            i = end + 1
            continue
        if char == "{" and "}" in glob[i:]:
            out.append("(?:")
            depth += 1
        elif char == "}" and depth:
            out.append(")")
            depth -= 1
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(_WILDCARDS.get(char) or re.escape(char))
        i += 1
    return "".join(out) + ")" * depth


def _one_of(body: str) -> str:
    negated = body[0] in "!^" and len(body) > 1
    inside = re.sub(r"([\\\[&~|])", r"\\\1", body[1:] if negated else body)
    one = f"[^{inside}/]" if negated else f"(?!/)[{inside}]"
    try:
        re.compile(one)
    except re.error:  # such as [z-a]
        return _NEVER
    return one
