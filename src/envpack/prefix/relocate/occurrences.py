"""The search for a prefix in bytes, and the placeholder that replaces it in what is stored."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import FileChunk, FileData, WindowedFile, in_memory, part
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.splice import Splice

TEXT_PLACEHOLDER_LENGTH = 255
"""Bytes of the placeholder in text: what conda-build uses, so that a search for either finds both."""


def canonical_placeholder(length: int) -> bytes:
    """Return the path of ``length`` bytes that replaces the prefix in stored files that no package published."""
    lead, filler = b"/envpack_placeholder", b"_placehold"
    return (lead + filler * (max(0, length - len(lead)) // len(filler) + 1))[:length]


class Occurrence(NamedTuple):
    """A mention of the prefix at ``offset``, with ``length`` bytes."""

    offset: int
    length: int


class Harmless(str):
    """A remark on mentions that do no harm where they stay, as far as is known."""


@dataclass(frozen=True)
class Canonical:
    """The change from a file to its stored form.

    Attributes:
        edits: The edits that make the stored bytes, ascending.
        relocation: The positions of the placeholder in the stored bytes.
        remarks: Descriptions of mentions that stay unchanged.
        sources: Sources and headers that a binary names: a mention that has no room for a prefix keeps the
            placeholder.
    """

    edits: tuple[Splice, ...] = ()
    relocation: Relocation | None = None
    remarks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def replaced(found: Sequence[Occurrence], data: FileData, placeholder: bytes) -> list[Splice]:
    """Return the edits that write the placeholder over each of the mentions.

    Args:
        found: The mentions.
        data: The bytes of the file.
        placeholder: The placeholder.
    """
    return [Splice(offset, data[offset : offset + length], placeholder) for offset, length in found]


def remark(found: Sequence[Occurrence], where: str) -> str:
    """Return the description of mentions that stay unchanged; ``where``: what they are in."""
    more = f", ... ({len(found):,} times)" if len(found) > 3 else ""
    places = ", ".join(str(occurrence.offset) for occurrence in found[:3]) + more
    return f"{where}: the build prefix stays at byte {places}"


_AROUND = 24
_PRINTABLE = re.compile(rb"[^\x00-\x20\x7f]*")


def remark_names(data: FileData, left: Sequence[Occurrence], longer: Sequence[bytes]) -> tuple[str, ...]:
    """Return the remarks on mentions that are part of a longer name.

    Args:
        data: The file.
        left: The mentions.
        longer: The paths that exist and begin with a path of the prefix, without a slash behind it.
    """
    groups: dict[bool, list[Occurrence]] = {}
    for occurrence in left:
        groups.setdefault(is_longer(data, occurrence, longer), []).append(occurrence)
    remarks = []
    for exists, places in groups.items():
        offset, length = places[0]
        begin = data[max(0, offset - _AROUND) : offset][::-1]
        behind = _PRINTABLE.match(data[offset + length : offset + length + _AROUND])
        before = _PRINTABLE.match(begin)
        assert before is not None and behind is not None
        name = before.group()[::-1] + data[offset : offset + length] + behind.group()
        kind = "the name of another path that exists" if exists else "part of a longer name"
        text = remark(places, f"{kind}, {name.decode('utf-8', 'replace')!r}")
        remarks.append(Harmless(text) if exists else text)
    return tuple(remarks)


def is_longer(data: FileData, occurrence: Occurrence, longer: Sequence[bytes]) -> bool:
    """Return whether a mention is the beginning of a longer path that exists.

    Args:
        data: The bytes of the file.
        occurrence: The mention.
        longer: Longer paths that exist; see `remark_names`.
    """
    return any(data[occurrence.offset : occurrence.offset + len(path)] == path for path in longer)


def not_in(anywhere: Sequence[Occurrence], found: Sequence[Occurrence]) -> list[Occurrence]:
    """Return those of ``anywhere`` that overlap none of ``found``; both are ascending."""
    left, index = [], 0
    for occurrence in anywhere:
        while index < len(found) and found[index].offset + found[index].length <= occurrence.offset:
            index += 1
        if index == len(found) or found[index].offset >= occurrence.offset + occurrence.length:
            left.append(occurrence)
    return left


def find_all(data: FileData, needle: bytes, start: int = 0, end: int = -1) -> Iterator[int]:
    """Yield the offsets of a string, ascending, without overlaps.

    Args:
        data: The bytes to search.
        needle: The string.
        start: The offset to start at.
        end: The offset to end at; negative for the end of the data.
    """
    end = len(data) if end < 0 else end
    if isinstance(data, WindowedFile):
        yield from data.find_all(needle, start, end)
        return
    offset = data.find(needle, start, end)
    while offset >= 0:
        yield offset
        offset = data.find(needle, offset + len(needle), end)


def find_prefix(data: FileData, aliases: Sequence[bytes]) -> list[Occurrence]:
    """Return where ``data`` mentions the prefix under any of its paths, as a path of its own, ascending.

    /opt/env is not mentioned by /opt/env2, /opt/env.bak or /data/opt/env; it is by -I/opt/env/include,
    "/opt/env", file:///opt/env and a sentence that ends in /opt/env.
    """
    found = [
        Occurrence(offset, len(alias))
        for alias in aliases
        for offset in find_all(data, alias)
        if stands_alone(data, offset, offset + len(alias))
    ]
    if len(aliases) > 1 and len(found) > 1:
        found = _without_overlaps(found)
    return found


def _without_overlaps(found: list[Occurrence]) -> list[Occurrence]:
    kept: list[Occurrence] = []
    for occurrence in sorted(found, key=lambda o: (o.offset, -o.length)):
        if not kept or occurrence.offset >= kept[-1].offset + kept[-1].length:
            kept.append(occurrence)
    return kept


# Letters from 0x80 to 0xbf in Latin-1 and Windows-1252; no character of UTF-8 begins with these bytes.
_LATIN_1 = rb"\x8a\x8c\x8e\x9a\x9c\x9e\x9f\xaa\xb5\xba"
# What may stand in a path component next to the prefix's own bytes. A dot at the end of a word is a full stop.
_CONTINUES = re.compile(rb"\.*([\w\-+@~\xc0-\xff" + _LATIN_1 + rb"])")
# Unicode's general categories of punctuation, blanks and arrows.
_MARKS = frozenset(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Zs", "Zl", "Zp", "Sm"))
_BYTE_ORDER_MARK = "\ufeff"
# Before the prefix's slash: a word means that the slash separates it from the prefix's first component,
# unless the word is an option (-I/opt/env), a mark of its own (gcc's @/opt/env/args, systemd's -/opt/env, the
# "." that CPython's Makefile puts before its prefix for WASM) or the end of an escape sequence (\n/opt/env).
_WORD_BEFORE = re.compile(rb"[\w.\-+@~\x80-\xff]+\Z")
_OPTION = re.compile(rb"(?:-[A-Za-z]*|[+@.])\Z")
# Escape sequences of strings and regular expressions, and those that set colours (ECMA-48, SGR).
_ESCAPE = re.compile(
    rb"\\(?:[A-Za-z0-9]|x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})\Z"
    rb"|(?:\x1b|\\(?:e|E|033|x1[bB]|u001[bB]))\[[0-9;]*m\Z"
)
# RFC 8089, and the variables that hold a staging root: GNU make, autotools, rpmbuild, makepkg, ebuild, Buildroot.
_OUTSIDE = re.compile(
    rb"file://localhost\Z|\$(?:DESTDIR|INSTALL_ROOT|RPM_BUILD_ROOT|pkgdir|ED|D|TARGET_DIR|STAGING_DIR|SYSROOT)\Z"
)
# sed and Perl take any character as the delimiter: s@/opt/env@...@, s+...+/opt/env+
_DELIMITED = re.compile(rb"(?:^|[^\w/])(?:s|y|m|tr|qr)([@~+])(?:[^\n]*\1)?\Z")
_BETWEEN_DELIMITERS = re.compile(rb"(?:^|[^\w/])(?:s|y|m|tr|qr)([@~+])[^\n]*\Z")
_PUNCTUATION_BEFORE = re.compile(rb"(?![" + _LATIN_1 + rb"])[\x80-\xbf]\Z")
_UTF_8_BEFORE = re.compile(rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})\Z")


UNMISTAKABLE = 100
"""Bytes from which on a prefix can't be part of another path by chance, whatever bytes surround it: ``envpack
build`` uses a longer one, and installers replace placeholders of that length without checking the bytes around
them."""


def stands_alone(data: FileData, start: int, end: int, first: int = 0, last: int = -1) -> bool:
    """Return whether the path at ``data[start:end]`` is not part of a longer name.

    Args:
        data: The bytes of the file.
        start: The offset of the path.
        end: The offset of its end.
        first: The first byte that is checked.
        last: The end of the bytes that are checked; negative for the end of the data.
    """
    if end - start >= UNMISTAKABLE:
        return True
    last = len(data) if last < 0 else last
    before = data[max(first, start - 64) : start]
    word = _WORD_BEFORE.search(before)
    delimited = _DELIMITED.search(before) if word is not None else None
    if _continues(data[end : min(last, end + 64)]):
        inside = _BETWEEN_DELIMITERS.search(before)
        delimiter = inside[1] if inside else b"@" if before.endswith(b"@") else b""
        if not delimiter or data[end : end + 1] != delimiter:
            return False
    if word is None or delimited or before.endswith(b"@"):
        return True
    if _ESCAPE.search(before) or _OUTSIDE.search(before):
        return True
    if _PUNCTUATION_BEFORE.search(before) and not _UTF_8_BEFORE.search(before):
        return True
    name = _behind_marks(word.group())
    if not name:
        return True
    return _OPTION.match(name) is not None and not before[: -len(name)].endswith(b"/")


def _continues(behind: bytes) -> bool:
    """Return whether the bytes behind a path belong to its last name."""
    found = _CONTINUES.match(behind)
    if found is None:
        return False
    character = behind[found.start(1) : found.start(1) + 4].decode("utf-8", "surrogateescape")[0]
    return not _is_mark(character)


def _behind_marks(word: bytes) -> bytes:
    """Return the part of a word behind the last punctuation mark that is not ASCII."""
    text = word.decode("utf-8", "surrogateescape")
    at = next((index for index in range(len(text), 0, -1) if _is_mark(text[index - 1])), 0)
    return text[at:].encode("utf-8", "surrogateescape")


def _is_mark(character: str) -> bool:
    """Return whether a character that is not ASCII is a punctuation mark, a blank or an arrow."""
    if character.isascii():
        return False
    return character == _BYTE_ORDER_MARK or unicodedata.category(character) in _MARKS


def is_text(data: FileData) -> bool:
    """Return whether ``data`` has no NUL: then tools read it as lines, and its length may change."""
    return data.find(b"\0") < 0


def apply(data: FileData, edits: Sequence[Splice]) -> list[FileChunk]:
    """Return ``data`` with ``edits`` applied, as pieces that copy nothing of ``data``.

    The edits must be ascending, and must match the data: this is not checked.
    """
    if not edits:
        return [data]
    pieces: list[FileChunk] = []
    done = 0
    for offset, old, new in edits:
        if offset > done:
            pieces.append(part(data, done, offset))
        if new:
            pieces.append(new)
        done = offset + len(old)
    if done < len(data):
        pieces.append(part(data, done, len(data)))
    return pieces


def digest(pieces: Iterable[FileChunk]) -> str:
    """Return the sha256 of the joined pieces, in hex."""
    whole = list(pieces)
    if len(whole) == 1 and isinstance(whole[0], WindowedFile) and whole[0].sha256:
        return whole[0].sha256
    state = hashlib.sha256()
    for piece in in_memory(whole):
        state.update(piece)
    return state.hexdigest()
