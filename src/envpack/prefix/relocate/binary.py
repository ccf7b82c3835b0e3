"""The relocation of a binary's mentions of the prefix: in place, without moving the bytes that follow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.relocation.relocation import Relocation

# A byte that continues the path component before it: slashes between the two would change the path.
_CONTINUES = re.compile(rb"[\w\-+@~.\x80-\xff]")


class BinaryMention(NamedTuple):
    """A mention of the prefix in a binary.

    Attributes:
        stored: Offset of the placeholder in the stored bytes.
        following: The byte after the mention; b"" at the end of the file.
    """

    stored: int
    following: bytes


class BinaryString(NamedTuple):
    """A NUL-terminated string with mentions in it; ``end`` is the offset of its NUL in the stored bytes."""

    mentions: Sequence[BinaryMention]
    end: int


def binary_relocation(placeholder: bytes, strings: Iterable[BinaryString]) -> Relocation:
    """Return the relocation of the ``placeholder`` in the given strings of a binary.

    A mention that is followed by more of a path is padded with slashes, which every path accepts, so that pointers
    into the rest of the string stay right. The string is filled up with NULs only where a mention ends the string,
    or where the last name of the prefix continues after it.
    """
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


def slashes(data: FileData, start: int, most: int) -> int:
    """Return the number of slashes at ``start``, at most ``most``."""
    count = 0
    while count < most and data[start + count : start + count + 1] == b"/":
        count += 1
    return count
