"""Comparison of dotted versions of drivers, CUDA, glibc and kernels."""

from __future__ import annotations

import re

_LEADING = re.compile(r"\d+(?:\.\d+)*")


def numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers: (570, 124, 6) for "570.124.06", (5, 15, 0) for "5.15.0-113-generic", else ()."""
    match = _LEADING.match(text.strip())
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def at_least(found: str, needed: str) -> bool:
    """Return whether ``found`` is ``needed`` or newer; missing parts count as zeros, so 12 is 12.0."""
    return compare(found, needed) >= 0


def compare(one: str, other: str) -> int:
    """Return -1, 0 or 1 when ``one`` is older than, equal to or newer than ``other``."""
    left, right = numbers(one), numbers(other)
    width = max(len(left), len(right))
    padded = [part + (0,) * (width - len(part)) for part in (left, right)]
    return (padded[0] > padded[1]) - (padded[0] < padded[1])


def major(text: str) -> int:
    """Return the first number, -1 when there is none."""
    return (numbers(text) or (-1,))[0]


def major_minor(text: str) -> str:
    """Return the first two numbers as text: 12.6 for "12.6.3", 12.0 for "12"."""
    parts = (*numbers(text), 0)[:2]
    return ".".join(map(str, parts))
