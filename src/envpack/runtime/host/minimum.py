"""Minimum requirements as a spec states them and a manifest carries them: the original text and its value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

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
_VERSION = re.compile(r"(?:>=\s*)?(\d{1,18}(?:\.\d{1,18}){0,3})")
_COUNT = re.compile(r"(?:>=\s*)?([1-9]\d{0,17})")
_LIMIT = 2**63
"""The numbers in a manifest are below it, and so are those of 18 digits in a version or a count."""
_SIZES = 'a size with its unit such as "40 GB" or "64 GiB"'


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


@dataclass(frozen=True)
class Form:
    """The form in which a spec states a minimum.

    Attributes:
        meaning: What the value is a minimum of, for docs/spec.md.
        example: A valid value as a spec's text.
        expected: A description of valid values, for error messages.
        parse: Return the minimum that a text states.
    """

    meaning: str
    example: str
    expected: str
    parse: Callable[[str], str | int | None]

    def minimum(self, text: str) -> Minimum:
        """Parse a text, with or without a leading ``>=``.

        Raises:
            ValueError: The text is not valid; the message says what was expected.
        """
        least = self.parse(text.strip())
        if least is None:
            raise ValueError(f"expected {self.expected}")
        return Minimum(text, least)


def version(meaning: str, example: str) -> Form:
    """Return the form of a version; `Form` has the arguments."""
    return Form(meaning, example, f'a minimum version such as "{example}"', _version)


def cuda_version(meaning: str, example: str) -> Form:
    """Return the form of a CUDA version, or an expression as NVIDIA_REQUIRE_CUDA holds it.

    Such an expression is ``cuda>=12.4 brand=tesla,driver>=470``. `Form` has the arguments.
    """
    return Form(meaning, example, f'a minimum version such as "{example}"', _cuda_version)


def size(meaning: str, example: str) -> Form:
    """Return the form of a size in bytes; `Form` has the arguments."""
    return Form(meaning, example, _SIZES, _size)


def cores(meaning: str, example: str) -> Form:
    """Return the form of a number of cores; `Form` has the arguments."""
    return Form(meaning, example, f"a number of cores such as {example}", _count)


def choice(meaning: str, *words: str) -> Form:
    """Return the form of one of several words; ``meaning`` is that of `Form`, and the first word its example."""
    return Form(meaning, words[0], " or ".join(words), lambda text: text if text in words else None)


def _version(text: str) -> str | None:
    match = _VERSION.fullmatch(text)
    return match[1] if match else None


def _cuda_version(text: str) -> str | None:
    least = _version(text)
    if least is None and any(word in text for word in require_cuda.PROPERTIES):
        least = require_cuda.least_cuda(require_cuda.parse(text))
        if not least:
            raise ValueError("the expression has no minimum CUDA version (cuda>=...), which the solver needs")
    return least


def _count(text: str) -> int | None:
    match = _COUNT.fullmatch(text)
    return int(match[1]) if match else None


def _size(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    unit = _UNITS.get(match[2].lower())
    if unit is None:
        raise ValueError(f"{match[2]!r} is not a unit; expected {_SIZES}")
    bytes_ = float(match[1]) * unit
    if bytes_ >= _LIMIT:
        raise ValueError("a size that no host has; expected less than 8 EiB")
    return int(bytes_)
