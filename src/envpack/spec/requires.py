"""What a bundle needs of the host it runs on: minimums, kept as written and as a number or version."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

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


@dataclass(frozen=True)
class AtLeast:
    """One requirement: ``text`` as the spec has it, ``minimum`` as a version ("11.8"), bytes or a count."""

    text: str
    minimum: str | int

    @property
    def version(self) -> tuple[int, ...]:
        """``minimum`` in numbers that compare: "11.8" is (11, 8)."""
        return tuple(int(part) for part in str(self.minimum).split("."))


@dataclass(frozen=True)
class Requires:
    """The ``requires:`` mapping. Every field is a minimum; None asks nothing.

    ``cuda`` is the CUDA version the host's driver must support, ``driver`` the driver itself,
    ``compute_capability`` of the GPU, ``gpu_memory`` of one GPU, ``glibc`` of the host, ``cpus`` usable cores,
    ``memory`` of the host, ``disk`` free space where the bundle is deployed.
    """

    cuda: AtLeast | None = None
    driver: AtLeast | None = None
    compute_capability: AtLeast | None = None
    gpu_memory: AtLeast | None = None
    glibc: AtLeast | None = None
    cpus: AtLeast | None = None
    memory: AtLeast | None = None
    disk: AtLeast | None = None

    def as_dict(self) -> dict[str, str]:
        """The texts of what is required, by name, in the order above."""
        return {name: need.text for name, need in self.items()}

    def items(self) -> list[tuple[str, AtLeast]]:
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, need) for name, need in pairs if need is not None]

    @classmethod
    def from_dict(cls, texts: dict[str, str]) -> Requires:
        """The inverse of `as_dict`; ValueError for what `parse_need` refuses."""
        return cls(**{name: parse_need(name, text) for name, text in texts.items()})


NAMES = tuple(field.name for field in fields(Requires))
SIZES = frozenset({"gpu_memory", "memory", "disk"})


def expected(name: str) -> str:
    """What a value of this requirement looks like, for error messages."""
    if name in SIZES:
        return 'a size with its unit such as "40 GB" or "64 GiB"'
    if name == "cpus":
        return "a number of cores such as 16"
    example = {"cuda": "11.8", "driver": "450.80.02", "compute_capability": ">=8.0", "glibc": "2.28"}[name]
    return f'a least version such as "{example}"'


def parse_need(name: str, text: str) -> AtLeast:
    """One requirement from its text, with or without a leading ``>=``; ValueError says what was expected."""
    pattern = _SIZE if name in SIZES else _COUNT if name == "cpus" else _VERSION
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected {expected(name)}")
    if pattern is _COUNT:
        return AtLeast(text, int(match[1]))
    if pattern is _VERSION:
        return AtLeast(text, match[1])
    unit = _UNITS.get(match[2].lower())
    if unit is None:
        raise ValueError(f"{match[2]!r} is not a unit; expected {expected(name)}")
    return AtLeast(text, int(float(match[1]) * unit))
