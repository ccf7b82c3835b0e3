"""Mentions of the prefix that a search for its bytes does not find, and that no deployment can rewrite.

These are text in UTF-16 and UTF-32, URLs and escaped strings inside binary data, and everything that is
compressed. They are reported when an environment is packed, instead of failing in production. Only files that
match no published digest are searched: a file as its package published it can't contain the path that it was
installed to later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import NamedTuple

from envpack.prefix.relocate.archives import CHUNK, is_packed, is_zip, unpack, zip_members
from envpack.prefix.relocate.encoded_mentions import find_encoded, find_escaped, needles, spellings
from envpack.prefix.relocate.occurrences import find_all, find_prefix, is_text, stands_alone
from envpack.prefix.scan.prune import translate
from envpack.prefix.scan.windowed_file import FileData

LIMIT = 128 << 20
"""Bytes of one file, unpacked, that are searched: a fifth of a second. A limit on time would make the results
depend on the machine."""

_AROUND = 64
"""Bytes on both sides of an occurrence that decide whether it is a path of its own."""

_MOST_NAMED = 3
_DEEPEST = 3
"""Maximum depth of archives within archives: a wheel in a zip in a zip."""


class ResidualMentions(NamedTuple):
    """The result of a search.

    Attributes:
        remarks: Descriptions of the mentions found.
        cut: Whether the file is too large to be searched to its end.
    """

    remarks: tuple[str, ...]
    cut: bool


class ResidualSearch:
    """A search for one environment's prefix, under all its paths."""

    def __init__(self, aliases: Sequence[bytes]) -> None:
        self._aliases = tuple(aliases)
        self._wide = tuple(filter(None, map(_wide, aliases)))
        self._widest = tuple(filter(None, map(_widest, aliases)))
        self.encoded = needles(aliases)
        """The encoded forms, for `find_encoded`."""
        self._escaped = spellings(aliases)
        words = tuple(spelling.word for spelling in self._escaped)
        self.needles = (
            *self._aliases,
            *self._wide,
            *self._widest,
            *(needle for needle, _ in self.encoded),
            *words,
        )
        """All byte strings that are searched for."""
        self.probes = probes(self.needles, words)
        """A part of each of them, for `WindowedFile.scan`."""
        self._probes = tuple(dict.fromkeys(self.probes.values()))
        self._probes_in_text = tuple(probe for probe in self._probes if b"\0" not in probe)
        self._tail = max([*map(len, self.needles), *(2 * one.reach for one in self._escaped)]) + 2 * _AROUND

    def __call__(self, data: FileData, *, relocated: bool) -> ResidualMentions:
        """Search one file; ``relocated``: its mentions in the forms of `encoded` are relocated already."""
        remarks = [f"{kind}: the build prefix stays{where}" for kind, where in self._in(data, relocated)]
        packed = self.compressed(data)
        return packed._replace(remarks=(*remarks, *packed.remarks))

    def absent(self, data: FileData) -> bool:
        """Return whether none of `needles` is in the file's own bytes: quicker than searching for each."""
        if isinstance(data, bytes):
            searched = self._probes_in_text if is_text(data) else self._probes
            return not any(map(data.__contains__, searched))
        return all(data.find(needle) < 0 for needle in self.needles)

    def compressed(self, data: FileData) -> ResidualMentions:
        """Search only what is compressed in the file."""
        budget = _Budget(LIMIT)
        remarks = self._packed(data, budget, _DEEPEST)
        return ResidualMentions(tuple(remarks), budget.left <= 0)

    def _in(self, data: FileData, relocated: bool) -> Iterator[tuple[str, str]]:
        if not is_text(data):
            wide = sorted(self._find_wide(data))
            if wide:
                yield "UTF-16 text", _at(wide)
            widest = sorted(offset for needle in self._widest for offset in find_all(data, needle))
            if widest:
                yield "UTF-32 text", _at(widest)
        if not relocated:
            found = find_encoded(data, self.encoded)
            for form in sorted({place.form for place in found}):
                yield _FORMS[form], _at([place.offset for place in found if place.form == form])
        escaped = find_escaped(data, self._escaped)
        for kind in sorted({_spelled_as(text) for _, text in escaped}):
            yield kind, _at([offset for offset, text in escaped if _spelled_as(text) == kind])

    def _find_wide(self, data: FileData) -> Iterator[int]:
        for needle in self._wide:
            for offset in find_all(data, needle):
                # with ASCII on both sides, the result is the same in either byte order
                before = _narrow(data[max(offset % 2, offset - 2 * _AROUND) : offset])
                end = offset + len(needle) + len(needle) % 2
                whole = before + b"/x" + _narrow(data[end : end + 2 * _AROUND])
                if stands_alone(whole, len(before), len(before) + 2):
                    yield offset

    def _mentions(self, data: bytes, last: bool) -> bool:
        """Return whether a piece of unpacked data mentions the prefix; ``last``: nothing follows it."""
        end = len(data) if last else len(data) - _AROUND
        plain = any(place.offset + place.length <= end for place in find_prefix(data, self._aliases))
        wide = any(self._find_wide(data)) or any(needle in data for needle in self._widest)
        return plain or wide or bool(find_encoded(data, self.encoded) or find_escaped(data, self._escaped))

    def _mentioned(self, chunks: Iterator[bytes]) -> bool:
        window = b""
        for chunk in chunks:
            if window and self._mentions(window, last=False):
                return True
            window = window[-self._tail :] + chunk
        return bool(window) and self._mentions(window, last=True)

    def _packed(self, data: FileData, budget: _Budget, depth: int) -> list[str]:
        if is_zip(data):
            members = self._members(data, budget, depth)
            return [_in_members(members)] if members else []
        unpacked = unpack(data)
        if unpacked is not None and self._mentioned(budget.spend(unpacked[1])):
            return [f"{unpacked[0]}, compressed: the build prefix stays"]
        return []

    def _members(self, data: FileData, budget: _Budget, depth: int) -> list[str]:
        """Return the names of the members that mention the prefix. Small ones are searched many at a time."""
        found: list[str] = []
        together: list[tuple[str, bytes]] = []
        size = 0
        for name, stored, pieces in zip_members(data):
            spent = budget.spend(pieces)
            first = next(spent, b"")
            if depth > 1 and is_packed(first):
                if self._packed(b"".join(chain([first], spent)), budget, depth - 1):
                    found.append(name)
            elif stored:
                continue  # already found by the search of the archive's own bytes
            elif len(first) < CHUNK:
                together.append((name, b"".join(chain([first], spent))))
                size += len(together[-1][1])
            elif self._mentioned(chain([first], spent)):
                found.append(name)
            if size >= CHUNK:
                found += self._in_any(together)
                together, size = [], 0
            if budget.left <= 0:
                break
        return found + self._in_any(together)

    def _in_any(self, members: Sequence[tuple[str, bytes]]) -> list[str]:
        if not self._mentions(b"\0".join(data for _, data in members), last=True):
            return []
        return [name for name, data in members if self._mentions(data, last=True)]


@cache
def _harmless() -> re.Pattern[str]:
    text = resources.files("envpack.prefix.relocate").joinpath("harmless.json").read_text(encoding="utf-8")
    return re.compile("|".join(translate(rule["glob"]) for rule in json.loads(text)["rules"]), re.DOTALL)


def matters(path: str) -> bool:
    """Return whether a mention that stays in the file at ``path`` may break a program, as far as is known."""
    return not _harmless().fullmatch(path)


_FORMS = {
    "json": "escaped string",
    "json-slashes": "escaped string",
    "percent": "percent-encoded text",
    "url": "percent-encoded text",
}


def _spelled_as(text: bytes) -> str:
    """Return the kind of spelling of a mention that `find_escaped` found."""
    if b"&" in text:
        return "text with HTML entities"
    return "percent-encoded text" if b"%" in text or b"\\" not in text else "escaped string"


def _at(offsets: Sequence[int]) -> str:
    return f" at byte {', '.join(map(str, offsets[:_MOST_NAMED]))}" + (
        ", ..." if len(offsets) > _MOST_NAMED else ""
    )


def _in_members(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
    )
    return f"zip archive, compressed {shown}: the build prefix stays"


def probes(searched: Sequence[bytes], words: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return for each byte string the word that is in it, or itself.

    Where the word is not found, the byte string has not to be searched for.

    Args:
        searched: The byte strings, the words among them.
        words: Parts of the paths that most forms of them have in common.
    """
    return {needle: next((word for word in words if word in needle), needle) for needle in searched}


def _wide(alias: bytes) -> bytes:
    """Return the bytes that UTF-16 of both byte orders has in common: all but the very first or last byte."""
    try:
        little = alias.decode("utf-8").encode("utf-16-le")
    except UnicodeDecodeError:
        return b""
    return little[:-1] if alias.isascii() else little


def _widest(alias: bytes) -> bytes:
    """Return the bytes that UTF-32 of both byte orders has in common: all but the NULs at one end."""
    try:
        return alias.decode("utf-8").encode("utf-32-le").rstrip(b"\0")
    except UnicodeDecodeError:
        return b""


def _narrow(data: bytes) -> bytes:
    return data[: len(data) // 2 * 2].decode("utf-16-le", "replace").encode()


class _Budget:
    """The number of bytes that may still be unpacked."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.left -= len(piece)
            yield piece
            if self.left <= 0:
                return
