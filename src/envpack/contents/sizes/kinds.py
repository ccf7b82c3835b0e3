"""The kinds of file, by path: rows of kinds.json."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from envpack.prefix.scan.prune import translate


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: Its name, such as "shared".
        title: Its name for people, such as "shared libraries".
    """

    name: str
    title: str


def kinds() -> tuple[Kind, ...]:
    """Return all kinds, in the order in which they are tried."""
    return _rules()[0]


@lru_cache(maxsize=1 << 17)  # a page asks again for each file
def kind_of(path: str) -> Kind:
    """Return the kind of a file, from its path relative to the prefix."""
    known, pattern = _rules()
    match = pattern.fullmatch(path)
    return known[int(match.lastgroup[1:])] if match and match.lastgroup else known[-1]


@cache
def _rules() -> tuple[tuple[Kind, ...], re.Pattern[str]]:
    rows = json.loads(resources.files("envpack.contents.sizes").joinpath("kinds.json").read_text(encoding="utf-8"))
    known = tuple(Kind(row["kind"], row["title"]) for row in rows["kinds"])
    groups = (
        f"(?P<k{number}>{'|'.join(map(translate, row['globs']))})"
        for number, row in enumerate(rows["kinds"])
        if row["globs"]
    )
    return known, re.compile("|".join(groups), re.DOTALL)
