"""The replacement of the prefix in files that no package published: its mentions become a canonical placeholder.

The stored bytes then no longer depend on the path where the environment was built. Text may grow, so its
placeholder has the length that conda uses; a string in a binary keeps its length, so that nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from envpack.prefix.magics import ends_zip
from envpack.prefix.relocate.binary import canonicalise_binary, with_neighbours
from envpack.prefix.relocate.bytecode import BytecodeMention, MarshalString, UnparsableError, mentions
from envpack.prefix.relocate.encoded_mentions import Encoded, find_encoded
from envpack.prefix.relocate.lengths import container, text_with_lengths
from envpack.prefix.relocate.occurrences import (
    TEXT_PLACEHOLDER_LENGTH,
    UNMISTAKABLE,
    Canonical,
    Occurrence,
    canonical_placeholder,
    find_all,
    find_prefix,
    is_longer,
    is_text,
    not_in,
    remark,
    remark_names,
    replaced,
)
from envpack.prefix.relocate.shebang import HEAD, FirstLine, first_line
from envpack.prefix.relocate.surroundings import Place
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.relocation.relocation import ENCODINGS, Relocation, string_head
from envpack.runtime.relocation.splice import Splice

TEXT = canonical_placeholder(TEXT_PLACEHOLDER_LENGTH)

SCRIPT = canonical_placeholder(UNMISTAKABLE)
"""The placeholder in scripts. With it the first line is short enough for the kernel, which then refuses to run a
script that was unpacked by plain tar and not relocated yet. A longer line it does not read as one, and shells then
run the script as their own (execve(2), ENOEXEC)."""


def canonicalise(
    data: FileData,
    aliases: Sequence[bytes],
    executable: bool,
    needles: Sequence[tuple[bytes, str]],
    place: Place,
) -> Canonical:
    """Return the stored form of a text or binary file.

    Args:
        data: The file's bytes.
        aliases: All paths of the prefix.
        executable: Whether the file is run by its first line.
        needles: The encoded forms of the prefix that are relocated in text, too.
        place: What surrounds the file.
    """
    anywhere = [Occurrence(place, len(name)) for name in aliases for place in find_all(data, name)]
    text = is_text(data)
    encoded = find_encoded(data, needles) if text and needles else []
    if not anywhere and not encoded:
        return Canonical()
    found = [each for each in find_prefix(data, aliases) if not _is_other(data, each, place)]
    left = not_in(sorted(anywhere), found)
    line = first_line(data[:HEAD], aliases) if executable and data[:2] == b"#!" else None
    everywhere = sorted((*anywhere, *(Occurrence(offset, length) for offset, length, _ in encoded)))
    kind = text_with_lengths(data, everywhere) if text else container(data)
    if kind and data[:2] != b"#!":
        # the bytes before the prefix may be a length or another member's name
        return Canonical(remarks=(remark(everywhere, kind),))
    if text:
        placeholder = SCRIPT if executable and data[:2] == b"#!" else TEXT
        canonical = _text(data, found, encoded, line, placeholder) if found or encoded else Canonical()
    elif data[:2] == b"#!":
        canonical = _script_with_payload(data, found, line) if found else Canonical()
    else:
        found, left = with_neighbours(data, found, left, place.longer) if left else (found, left)
        canonical = canonicalise_binary(data, found, aliases, place)
    if not left:
        return canonical
    return replace(canonical, remarks=canonical.remarks + remark_names(data, left, place.longer))


def _stored_offsets(edits: Sequence[Splice]) -> list[int]:
    """Return the offset of each edit's new bytes in the result."""
    offsets, shift = [], 0
    for offset, old, new in edits:
        offsets.append(offset + shift)
        shift += len(new) - len(old)
    return offsets


def _text(
    data: FileData,
    found: Sequence[Occurrence],
    encoded: Sequence[Encoded],
    line: FirstLine | None,
    placeholder: bytes,
) -> Canonical:
    begin = line.end if line is not None else 0
    plain = _behind(found, begin)
    edits = [_direct_line(data, line, placeholder)] if line is not None else []
    forms: dict[Splice, str] = dict.fromkeys(replaced(plain, data, placeholder), "")
    taken = {place for offset, length in plain for place in range(offset, offset + length)} if encoded else set()
    for offset, length, form in encoded:
        if offset >= begin and taken.isdisjoint(range(offset, offset + length)):
            forms[Splice(offset, data[offset : offset + length], ENCODINGS[form](placeholder))] = form
    edits += sorted(forms)
    places: dict[str, list[int]] = {}
    for splice, offset in zip(edits, _stored_offsets(edits), strict=True):
        places.setdefault(forms.get(splice, "shebang"), []).append(offset)
    text = tuple(places.pop("", ()))
    places.pop("shebang", None)
    shebang = line.shebang if line is not None else None
    coded = tuple((form, tuple(offsets)) for form, offsets in sorted(places.items()))
    return Canonical(tuple(edits), Relocation(placeholder, text=text, encoded=coded, shebang=shebang))


def _direct_line(data: FileData, line: FirstLine, placeholder: bytes) -> Splice:
    return Splice(0, data[: line.end], line.shebang.lead + placeholder + line.shebang.rest)


def _behind(found: Sequence[Occurrence], end: int) -> list[Occurrence]:
    return [occurrence for occurrence in found if occurrence.offset >= end]


def _script_with_payload(data: FileData, found: Sequence[Occurrence], line: FirstLine | None) -> Canonical:
    """Return the stored form of a script with binary data appended.

    In a zipapp the first lines may change their length, as zip files are read from their end. In any other file
    only the first line is changed, and it stays one line.
    """
    if line is not None and ends_zip(data):
        edits, end = [_direct_line(data, line, SCRIPT)], line.end
        relocation = Relocation(SCRIPT, shebang=line.shebang)
    else:
        end = data.find(b"\n")
        edits = replaced([occurrence for occurrence in found if occurrence.offset < end], data, SCRIPT)
        relocation = Relocation(SCRIPT, text=tuple(_stored_offsets(edits)))
    left = _behind(found, end)
    remarks = (remark(left, "binary data behind a script"),) if left else ()
    return Canonical(tuple(edits), relocation if edits else None, remarks)


# --- byte-code ---

_ASCII_KIND = {ord("u"): ord("a"), ord("t"): ord("A"), ord("z"): ord("a"), ord("Z"): ord("A")}
_SHORT_KIND = {ord("a"): ord("z"), ord("A"): ord("Z")}
_FLAG_REF = 0x80


def canonicalise_bytecode(
    data: bytes, aliases: Sequence[bytes], source: str, renamed: bool, place: Place
) -> Canonical:
    """Return the stored form of a pyc: strings of its constants grow, and their lengths with them.

    Args:
        data: The bytes of the pyc.
        aliases: All paths of the prefix.
        source: The path of its source, relative to the prefix.
        renamed: Whether Python gives the code the path of ``source`` when it imports it (Lib/importlib/
            _bootstrap_external.py, _compile_bytecode). If nothing else mentions the prefix, there is nothing to
            relocate then: the name is stored relative to the prefix, as ``envpack build`` compiles it.
        place: What surrounds the file.
    """
    anywhere = sorted(Occurrence(place, len(alias)) for alias in aliases for place in find_all(data, alias))
    if not anywhere:
        return Canonical()
    try:
        mentioned = mentions(data, aliases, source)
    except UnparsableError as problem:
        return Canonical(remarks=(f"byte-code that can't be read ({problem}): the build prefix stays",))
    mentioned = list(_without_others(data, mentioned, place))
    left = not_in(anywhere, [Occurrence(*place) for _, places in mentioned for place in places])
    remarks = remark_names(data, left, place.longer) if left else ()
    if not mentioned:
        return Canonical(remarks=remarks)
    name = source.encode("utf-8", "surrogateescape")
    own = [alias + b"/" + name for alias in aliases]
    if renamed and all(data[text:end] in own for (_, text, end), _ in mentioned):
        return Canonical(tuple(_named(data, string, name) for string, _ in mentioned), None, remarks)
    edits: list[Splice] = []
    table, shift = [], 0
    for (start, text, end), places in mentioned:
        growth = sum(len(TEXT) - length for _, length in places)
        rest = data[text:end]
        for offset, length in reversed(places):
            rest = rest[: offset - text] + rest[offset - text + length :]
        kind, length = _stored_kind(data[start], end - text + growth, rest), end - text + growth
        string = [Splice(start, data[start:text], string_head(kind, length))]
        string += replaced([Occurrence(*place) for place in places], data, TEXT)
        table.append((start + shift, kind, length, *(offset + shift for offset in _stored_offsets(string)[1:])))
        shift += sum(len(new) - len(old) for _, old, new in string)
        edits += string
    return Canonical(tuple(edits), Relocation(TEXT, marshal=tuple(table)), remarks)


def _without_others(data: bytes, mentioned: Sequence[BytecodeMention], place: Place) -> Iterator[BytecodeMention]:
    for string, places in mentioned:
        kept = tuple(each for each in places if not _is_other(data, Occurrence(*each), place))
        if kept:
            yield BytecodeMention(string, kept)


def _is_other(data: FileData, occurrence: Occurrence, place: Place) -> bool:
    """Return whether a mention is the beginning of a longer path that exists, such as that of a folder beside it.

    Only a path that is `UNMISTAKABLE` stands alone there.
    """
    behind = data[occurrence.offset + occurrence.length : occurrence.offset + occurrence.length + 1]
    return occurrence.length >= UNMISTAKABLE and behind != b"/" and is_longer(data, occurrence, place.longer)


def _named(data: bytes, string: MarshalString, name: bytes) -> Splice:
    """Return the edit that gives the string another text."""
    kind = _stored_kind(data[string.start], len(name), name)
    return Splice(string.start, data[string.start : string.end], string_head(kind, len(name)) + name)


def _stored_kind(kind: int, length: int, rest: bytes) -> int:
    """Return the type byte that CPython would write; the placeholder is ASCII.

    See Python/marshal.c, w_complex_object.
    """
    flag, base = kind & _FLAG_REF, kind & ~_FLAG_REF
    if base != ord("s") and rest.isascii():
        base = _ASCII_KIND.get(base, base)
        if length < 256:
            base = _SHORT_KIND[base]
    return base | flag
