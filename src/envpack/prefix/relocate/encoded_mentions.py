"""Mentions of the prefix in encoded form: in URLs and in JSON, where its bytes do not appear unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from envpack.prefix.relocate.occurrences import find_all, stands_alone
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.relocation.relocation import ENCODINGS

_AROUND = 96
"""Bytes checked on both sides of an occurrence, to see whether it is part of a longer path."""


def _unescape(data: bytes) -> bytes:
    text = re.sub(rb"\\u00([0-7][0-9a-fA-F])", lambda match: bytes((int(match[1], 16),)), data)
    return text.replace(b"\\/", b"/")


_DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "json": _unescape,
    "json-slashes": _unescape,
    "percent": unquote_to_bytes,
    "url": unquote_to_bytes,
}


class Encoded(NamedTuple):
    """An encoded mention of the prefix.

    Attributes:
        offset: Its offset in bytes.
        length: Its length in bytes.
        form: Its encoding, a key of `ENCODINGS`.
    """

    offset: int
    length: int
    form: str


def needles(aliases: Sequence[bytes]) -> tuple[tuple[bytes, str], ...]:
    """Return the byte strings to search for, each with its form.

    They are the encoded forms of every path that differ from the path itself.
    """
    found: dict[bytes, str] = {}
    for alias in aliases:
        for form, encode in ENCODINGS.items():
            if form.startswith("json") and not _is_utf_8(alias):
                continue
            needle = encode(alias)
            if needle not in aliases:
                found.setdefault(needle, form)
    return tuple(found.items())


def _is_utf_8(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def find_encoded(data: FileData, searched: Sequence[tuple[bytes, str]]) -> list[Encoded]:
    """Return where ``data`` mentions the prefix in a form of `needles`, as a path of its own, ascending."""
    found = [
        Encoded(offset, len(needle), form)
        for needle, form in searched
        for offset in find_all(data, needle)
        if _alone(data, offset, offset + len(needle), _DECODERS[form])
    ]
    return sorted(_without_overlaps(sorted(found, key=lambda place: (place.offset, -place.length))))


def _alone(data: FileData, start: int, end: int, decode: Callable[[bytes], bytes]) -> bool:
    before = decode(data[max(0, start - _AROUND) : start])
    whole = before + decode(data[start : end + _AROUND])
    return stands_alone(whole, len(before), len(before) + len(decode(data[start:end])))


def _without_overlaps(places: Sequence[Encoded]) -> Iterator[Encoded]:
    end = 0
    for place in places:
        if place.offset >= end:
            yield place
            end = place.offset + place.length
