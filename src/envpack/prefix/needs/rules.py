"""The rules of ``rules.json``: the kinds of evidence, the order in which they decide, and groups of packages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

Row = dict[str, Any]

USER, RUNTIME, HINT = "user", "runtime", "hint"
"""Kinds of evidence: of something that uses CUDA, of a CUDA runtime that is there, and evidence that decides
nothing."""


@cache
def table(name: str) -> Any:
    """Return one member of rules.json; the file describes each."""
    text = resources.files(__package__).joinpath("rules.json").read_text(encoding="utf-8")
    return json.loads(text)[name]


@cache
def rank(rule: str) -> int:
    """Return the position of a rule in the order in which evidence decides; 0 decides first."""
    return [row["rule"] for row in table("order")].index(rule)


def kind(rule: str) -> str:
    """Return the kind of a rule: USER, RUNTIME or HINT."""
    found: str = table("order")[rank(rule)]["kind"]
    return found


@cache
def normalized(name: str) -> str:
    """Return a package's name as PyPI compares names (PEP 503), which works for conda's too."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)


def named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the globs matches the package's name."""
    return any(fnmatchcase(normalized(name), normalized(pattern)) for pattern in patterns)


def family(name: str) -> str:
    """Return the framework that a package belongs to, or its own name."""
    for row in table("families"):
        if named(name, row["packages"]):
            found: str = row["family"]
            return found
    return normalized(name)


def is_framework(name: str) -> bool:
    """Return whether the package belongs to a framework that has builds with and without GPU support."""
    return any(row["family"] == family(name) for row in table("families"))


def is_toolkit(name: str) -> bool:
    """Return whether the package holds libraries that other packages use, mostly NVIDIA's."""
    return any(named(name, row["packages"]) for row in table("toolkit"))
