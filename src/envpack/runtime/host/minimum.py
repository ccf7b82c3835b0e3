"""Minimum requirements as a spec states them and a manifest carries them: the original text and its value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envpack.runtime.host import require_cuda

_UNITS = {
    # decimal units as disks and networks state them, binary ones as memory is made (IEC 80000-13)
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"(?:>=\s*)?(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_VERSION = re.compile(r"(?:>=\s*)?(\d+(?:\.\d+){0,3})")
_COUNT = re.compile(r"(?:>=\s*)?([1-9]\d*)")

NAMES = (
    "cuda",
    "driver",
    "compute_capability",
    "gpu_memory",
    "glibc",
    "kernel",
    "cpus",
    "memory",
    "disk",
)
"""Every requirement that a spec can state."""

SIZES = frozenset({"gpu_memory", "memory", "disk"})

_EXAMPLES = {
    "cuda": "11.8",
    "driver": "450.80.02",
    "compute_capability": ">=8.0",
    "glibc": "2.28",
    "kernel": "4.18",
}


@dataclass(frozen=True)
class Minimum:
    """One minimum requirement.

    Attributes:
        text: The requirement as the spec states it.
        minimum: A version ("11.8"), a size in bytes, or a count. For an expression of NVIDIA_REQUIRE_CUDA: the
            lowest CUDA version in it.
    """

    text: str
    minimum: str | int

    @property
    def version(self) -> tuple[int, ...]:
        """Return ``minimum`` as numbers that compare: "11.8" is (11, 8)."""
        return tuple(int(part) for part in str(self.minimum).split("."))

    @property
    def is_expression(self) -> bool:
        """Return whether the text is an expression, which states more than its minimum."""
        return _VERSION.fullmatch(self.text.strip()) is None and isinstance(self.minimum, str)


def expected(name: str) -> str:
    """Return a description of valid values of this requirement, for error messages."""
    if name in SIZES:
        return 'a size with its unit such as "40 GB" or "64 GiB"'
    if name == "cpus":
        return "a number of cores such as 16"
    return f'a least version such as "{_EXAMPLES[name]}"'


def parse_need(name: str, text: str) -> Minimum:
    """Parse one requirement, with or without a leading ``>=``.

    ``cuda`` may be an expression as NVIDIA_REQUIRE_CUDA holds it: ``cuda>=12.4 brand=tesla,driver>=470``.

    Raises:
        ValueError: The text is not valid; the message says what was expected.
    """
    pattern = _SIZE if name in SIZES else _COUNT if name == "cpus" else _VERSION
    match = pattern.fullmatch(text.strip())
    if match is None and name == "cuda" and any(word in text for word in require_cuda.PROPERTIES):
        least = require_cuda.least_cuda(require_cuda.parse(text))
        if not least:
            raise ValueError("the expression states no least CUDA version (cuda>=...), which the solver needs")
        return Minimum(text, least)
    if match is None:
        raise ValueError(f"expected {expected(name)}")
    if pattern is _COUNT:
        return Minimum(text, int(match[1]))
    if pattern is _VERSION:
        return Minimum(text, match[1])
    unit = _UNITS.get(match[2].lower())
    if unit is None:
        raise ValueError(f"{match[2]!r} is not a unit; expected {expected(name)}")
    return Minimum(text, int(float(match[1]) * unit))
