"""Dotted versions of drivers, CUDA, glibc and kernels as numbers that compare."""

from __future__ import annotations

import re

_LEADING = re.compile(r"\d+(?:\.\d+)*")


def numbers(text: str) -> tuple[int, ...]:
    """(570, 124, 6) of "570.124.06", (5, 15, 0) of "5.15.0-113-generic", () where there is no number in front."""
    match = _LEADING.match(text.strip())
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def at_least(found: str, needed: str) -> bool:
    """Whether ``found`` is ``needed`` or newer; parts that are not stated are zeros, so 12 is 12.0."""
    return compare(found, needed) >= 0


def compare(one: str, other: str) -> int:
    """-1, 0 or 1, as ``one`` is older, the same or newer."""
    left, right = numbers(one), numbers(other)
    width = max(len(left), len(right))
    padded = [part + (0,) * (width - len(part)) for part in (left, right)]
    return (padded[0] > padded[1]) - (padded[0] < padded[1])


def major(text: str) -> int:
    """The first number; -1 where there is none."""
    return (numbers(text) or (-1,))[0]


def major_minor(text: str) -> str:
    """12.6 of "12.6.3", 12.0 of "12"."""
    parts = (*numbers(text), 0)[:2]
    return ".".join(map(str, parts))
