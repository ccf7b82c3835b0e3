"""How a binary's mentions of the prefix are to be relocated: in place, without moving what is behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import Data
from envpack.runtime.relocation.relocation import Relocation

# A byte that goes on with the path component in front of it: slashes between the two would change the path.
_CONTINUES = re.compile(rb"[\w\-+@~.\x80-\xff]")


class Mention(NamedTuple):
    """The placeholder stands at ``stored`` in the stored bytes; ``following`` is the byte behind it."""

    stored: int
    following: bytes


class String(NamedTuple):
    """A NUL-terminated string with mentions in it, whose NUL is at ``end`` of the stored bytes."""

    mentions: Sequence[Mention]
    end: int


def binary_relocation(placeholder: bytes, strings: Iterable[String]) -> Relocation:
    """Pads behind a mention with slashes, which every path takes, so that pointers into the rest of the string
    stay right; fills up with NULs only where the mention ends its string, or where a name goes on behind it."""
    padded: list[int] = []
    filled: list[tuple[int, ...]] = []
    for string in strings:
        moving = []
        for mention in string.mentions:
            at_end = mention.following in (b"", b"\0")
            if at_end or _CONTINUES.match(mention.following):
                moving.append(mention.stored)
            else:
                padded.append(mention.stored)
        if moving:
            filled.append((*moving, string.end))
    return Relocation(placeholder, padded=tuple(padded), strings=tuple(filled))


def slashes(data: Data, start: int, most: int) -> int:
    """How many slashes stand at ``start``, ``most`` at the most."""
    count = 0
    while count < most and data[start + count : start + count + 1] == b"/":
        count += 1
    return count
