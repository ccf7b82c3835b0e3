"""The rules of ``rules.json``: which evidence there is, in which order it decides, which packages are which."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

Row = dict[str, Any]

USER, RUNTIME, HINT = "user", "runtime", "hint"
"""Kinds of evidence: of something that uses CUDA, of the CUDA that is there, and what decides nothing."""


@cache
def table(name: str) -> Any:
    """One member of rules.json; the file says what each is."""
    text = resources.files(__package__).joinpath("rules.json").read_text(encoding="utf-8")
    return json.loads(text)[name]


@cache
def rank(rule: str) -> int:
    """The place of a rule in the order in which evidence decides; 0 decides first."""
    return [row["rule"] for row in table("order")].index(rule)


def kind(rule: str) -> str:
    """USER, RUNTIME or HINT."""
    found: str = table("order")[rank(rule)]["kind"]
    return found


@cache
def normalized(name: str) -> str:
    """A package's name as PyPI compares them (PEP 503), which suits conda's too."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)


def named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the globs matches the package's name."""
    return any(fnmatchcase(normalized(name), normalized(pattern)) for pattern in patterns)


def family(name: str) -> str:
    """The framework that a package belongs to, or its own name."""
    for row in table("families"):
        if named(name, row["packages"]):
            found: str = row["family"]
            return found
    return normalized(name)


def is_framework(name: str) -> bool:
    """Whether the package belongs to a framework that there are builds of with and without a GPU."""
    return any(row["family"] == family(name) for row in table("families"))


def is_toolkit(name: str) -> bool:
    """Whether the package is of libraries that others use, NVIDIA's mostly."""
    return any(named(name, row["packages"]) for row in table("toolkit"))
