"""Which files of a prefix a bundle leaves out: prune profiles, and a spec's exclude and include globs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

PROTECTED = ("conda-meta/**", "lib/python*/site-packages/*.dist-info/**")
"""Never pruned by a profile (a spec's own ``exclude`` may): they say what is installed."""


@dataclass(frozen=True)
class Selection:
    """``kept`` in the order given; ``dropped`` maps each path left out to why: a profile or an exclude glob."""

    kept: tuple[str, ...]
    dropped: dict[str, str]


def select(
    paths: Iterable[str], *, exclude: Iterable[str] = (), include: Iterable[str] = (), prune: Iterable[str] = ()
) -> Selection:
    """Divide ``paths`` (files and links, relative to the prefix, with ``/``) into what stays and what goes.

    A path goes when a profile of ``prune`` or a glob of ``exclude`` takes it, unless a glob of ``include`` has
    it. Globs are of the whole path: ``*`` and ``?`` stay within one folder, ``**`` crosses folders, ``[...]``
    and ``{a,b}`` choose, and a glob that names a folder takes all that is in it. KeyError for a profile unknown.
    """
    profiles = [(name, *_profile(name)) for name in prune]
    excluded = [(glob, _pattern((glob,))) for glob in exclude]
    included = _pattern(tuple(include))
    protected = _pattern(PROTECTED)
    kept, dropped = [], {}
    for path in paths:
        reason = next((f"exclude: {glob}" for glob, pattern in excluded if pattern.fullmatch(path)), "")
        if not reason and not protected.fullmatch(path):
            reason = next(
                (
                    f"prune: {name}"
                    for name, drop, keep in profiles
                    if drop.fullmatch(path) and not keep.fullmatch(path)
                ),
                "",
            )
        if reason and not included.fullmatch(path):
            dropped[path] = reason
        else:
            kept.append(path)
    return Selection(tuple(kept), dropped)


@cache
def _profile(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The patterns of what a profile drops and of what it keeps all the same."""
    text = resources.files("envpack.prefix").joinpath("prune.json").read_text(encoding="utf-8")
    profile = json.loads(text)["profiles"][name]
    drop, keep = (tuple(rule["glob"] for rule in profile[key]) for key in ("drop", "keep"))
    return _pattern(drop), _pattern(keep)


@cache
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for all ``globs``; for none, one that matches nothing."""
    return re.compile("|".join(map(translate, globs)) or r"(?!)", re.DOTALL)


def translate(glob: str) -> str:
    """A glob as a regular expression for the whole path, or for a path below it."""
    out, i, depth = [], 0, 0
    glob = glob.strip("/").removeprefix("./")
    while i < len(glob):
        char = glob[i]
        if glob.startswith("**/", i):
            out.append("(?:[^/]+/)*")
            i += 3
            continue
        if glob.startswith("**", i):
            out.append(".*")
            i += 2
            continue
        if char == "[" and (end := glob.find("]", i + 2)) > 0:
            body = glob[i + 1 : end].replace("\\", r"\\")
            out.append(f"[^{body[1:]}/]" if body[0] in "!^" else f"(?!/)[{body}]")
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
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)))
        i += 1
    return f"(?:{''.join(out)})(?:/.*)?"
