"""The last line of a test run: which kinds of tests were left out, and how to get them."""

from __future__ import annotations

import re
from collections.abc import Iterable

PROGRAMS = (
    r"(\S+) is not installed",
    r"(squashfs-tools) are not installed",
    r"needs (binutils|nvcc)",
    r"needs root and (mkfs\.\w+ or mkfs\.\w+)",
)
ROOT = (r"only root", r"for root only", r"mounting is not permitted", r"no loop mounts", r"nothing can be mounted")


def last_line(reasons: Iterable[str]) -> str:
    """Return the line for the given reasons of skipped tests, "" when there are none."""
    missing: dict[str, int] = {}
    root = others = 0
    for reason in reasons:
        found = next((match for pattern in PROGRAMS if (match := re.search(pattern, reason))), None)
        if found:
            missing[found[1]] = missing.get(found[1], 0) + 1
        elif any(re.search(pattern, reason) for pattern in ROOT):
            root += 1
        else:
            others += 1
    parts = []
    if missing:
        names = ", ".join(sorted(missing))
        parts.append(
            f"{_tests(sum(missing.values()))} because programs are not installed ({names}): "
            "run 'make test-shells' as root to install those of Debian"
        )
    if root:
        parts.append(f"{_tests(root)} for root only: run as root")
    if others:
        parts.append(f"{_tests(others)} for other machines: list them with -rs")
    return f"skipped: {'; '.join(parts)}" if parts else ""


def _tests(count: int) -> str:
    return f"{count} test{'s' * (count != 1)}"
