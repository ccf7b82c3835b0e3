"""Mentions of the prefix in encoded form: in URLs and in JSON, where its bytes do not appear unchanged.

Those in one of the `ENCODINGS` can be relocated in text. All other spellings with escaped characters are only
reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.entities import html5
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


class Spelling(NamedTuple):
    """The spellings of a path in which characters other than letters and digits may be escaped.

    Attributes:
        word: Letters and digits of it, which no spelling escapes.
        before: What is before the word, in any spelling.
        behind: What is behind the word.
        ends: The last bytes that ``before`` may have.
        reach: Bytes that ``before`` may take up, and as many ``behind``.
        plain: The spellings that other searches find.
    """

    word: bytes
    before: re.Pattern[bytes]
    behind: re.Pattern[bytes]
    ends: bytes
    reach: int
    plain: frozenset[bytes]


_WORDS = re.compile(r"[A-Za-z0-9_]+")
_OTHERS = re.compile(r"[^A-Za-z0-9_]")
_ESCAPES = re.compile(rb"[\\%&+]")
_LONGEST_SPELLING = 24
"""Bytes that a character takes up at most, as ``\\\\u002f`` or ``&#x0002F;``."""


def spellings(aliases: Sequence[bytes]) -> tuple[Spelling, ...]:
    """Return what to search for, for each path that is UTF-8 and has letters or digits."""
    plain = frozenset((*aliases, *(needle for needle, _ in needles(aliases))))
    found = []
    for alias in filter(_is_utf_8, aliases):
        text = alias.decode()
        longest = max(_WORDS.finditer(text), key=lambda match: len(match[0]), default=None)
        if longest is None:
            continue
        before, behind = (list(map(_spelled, half)) for half in (text[: longest.start()], text[longest.end() :]))
        last = text[longest.start() - 1].encode()[-1:]
        found.append(
            Spelling(
                longest[0].encode(),
                re.compile(b"".join(before) + rb"\Z"),
                re.compile(b"".join(behind)),
                b"0123456789abcdefABCDEF;+" + last,
                len(text) + _LONGEST_SPELLING * len(_OTHERS.findall(text)),
                plain,
            )
        )
    return tuple(found)


def _spelled(character: str) -> bytes:
    """Return the regular expression of all spellings of a character.

    With backslashes: strings of C, JSON (RFC 8259) and Java, and regular expressions. Percent-encoded: RFC 3986,
    once or twice. Entities: HTML.
    """
    if _WORDS.fullmatch(character):
        return character.encode()
    utf_8, utf_16 = character.encode(), character.encode("utf-16-be")
    units = (utf_16[at : at + 2].hex() for at in range(0, len(utf_16), 2))
    number = ord(character)
    escapes = [
        "".join(f"%(?:25)?{byte:02x}" for byte in utf_8),
        "".join(rf"\\{{1,4}}u{unit}" for unit in units),
        "".join(rf"\\{{1,4}}x{byte:02x}" for byte in utf_8),
        "".join(rf"\\{{1,4}}{byte:03o}" for byte in utf_8),
        f"&#0*{number};",
        f"&#x0*{number:x};",
    ]
    names = [f"&{name}" for name, value in html5.items() if value == character and name.endswith(";")]
    forms = [rf"(?i:{'|'.join(escapes)})".encode(), *(name.encode() for name in names)]
    return b"(?:" + b"|".join([rb"\\{0,4}" + re.escape(utf_8), *forms, *([rb"\+"] * (character == " "))]) + b")"


_ESCAPED = re.compile(
    rb"%(?:25)?([2-7][0-9a-fA-F])|\\{1,4}(?:u00|x)([2-7][0-9a-fA-F])|&#x0*([2-7][0-9a-fA-F]);"
    rb"|&#0*([0-9]{2,3});|\\+(?=[^\w\s\\])"
)


def _unescaped(data: bytes) -> bytes:
    """Return ``data`` with its escaped characters of ASCII as they are."""

    def character(match: re.Match[bytes]) -> bytes:
        digits = match[1] or match[2] or match[3]
        number = int(digits, 16) if digits else int(match[4] or b"0")
        return bytes((number,)) if 0 < number < 128 else b""

    return _ESCAPED.sub(character, data)


def find_escaped(data: FileData, searched: Sequence[Spelling]) -> list[tuple[int, bytes]]:
    """Return (offset, spelling) of mentions that `find_prefix` and `find_encoded` do not search for, ascending."""
    found: dict[int, bytes] = {}
    for spelling in searched:
        for at in find_all(data, spelling.word):
            if data[at - 1 : at].strip(spelling.ends):
                continue
            begin, end = max(0, at - spelling.reach), at + len(spelling.word)
            window = data[begin : end + spelling.reach]
            if not _ESCAPES.search(window):
                continue
            before = spelling.before.search(window[: at - begin])
            behind = spelling.behind.match(window, end - begin) if before is not None else None
            if before is None or behind is None:
                continue
            text = before[0] + spelling.word + behind[0]
            start, end = at - len(before[0]), end + len(behind[0])
            if text not in spelling.plain and _alone(data, start, end, _unescaped):
                found[start] = text
    return sorted(found.items())
