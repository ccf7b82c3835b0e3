"""The use of strings in ELF files: the loader's search paths, and sections that no process loads.

Sources: the System V ABI (gABI) chapters 4 and 5; glibc, elf/dl-load.c, for empty search paths; ld.so(8) and
dlopen(3), for which searches use them.
"""

from __future__ import annotations

import posixpath
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from envpack.prefix.magics import AR, ELF, is_elf64
from envpack.prefix.relocate.surroundings import Place
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.relocation.splice import Splice

_LOAD, _DYNAMIC_SEGMENT = 1, 2
_NOBITS, _DYNSYM, _VERDEF, _VERNEED = 8, 11, 0x6FFFFFFD, 0x6FFFFFFE
_ALLOC = 0x2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
# NEEDED, SONAME, RPATH, RUNPATH, and of <elf.h>: CONFIG, DEPAUDIT, AUDIT, AUXILIARY, FILTER
_DT_STRINGS = frozenset((1, 14, 15, 29, 0x6FFFFEFA, 0x6FFFFEFB, 0x6FFFFEFC, 0x7FFFFFFD, 0x7FFFFFFF))
_LIBRARIES = (_DT_NEEDED, 0x7FFFFFFD, 0x7FFFFFFF)  # AUXILIARY and FILTER are searched for as NEEDED is
_OPEN = (b"dlopen\0", b"dlmopen\0")
_LIBRARY = re.compile(rb"([\w+.-]+\.so(?:\.[0-9]+)*)\0")
_LONGEST_NAME = 128
_MOST_SECTIONS, _MOST_TAGS, _MOST_SEGMENTS = 1 << 16, 1 << 12, 1 << 10
_LONGEST = 1 << 14


class RunPath(NamedTuple):
    """A search path of the loader.

    Attributes:
        entry: Its entry in the dynamic section.
        start: Offset of its string in the file.
        end: Offset of the string's NUL.
        room: Bytes that another path may have there: what lies behind is a name that shares the string's end.
    """

    entry: int
    start: int
    end: int
    room: int


class ElfStrings(NamedTuple):
    """The use of the strings in an ELF file of 64 bits.

    Attributes:
        unloaded: (start, end) in bytes of the sections that no process loads, ascending.
        run_paths: The search paths of the loader.
        needed: The names of the libraries that it is linked to.
        names: (start, end) in bytes of the string table of the dynamic section.
        opens: Whether it may call dlopen().
        dynamic: (offset, entries) of the dynamic section.
        order: Byte order, for `struct`.
    """

    unloaded: Sequence[tuple[int, int]]
    run_paths: Sequence[RunPath]
    needed: Sequence[bytes]
    names: tuple[int, int]
    opens: bool
    dynamic: tuple[int, Sequence[tuple[int, int]]]
    order: str

    def is_loaded(self, offset: int) -> bool:
        """Return whether the byte at ``offset`` may be in the memory of a process."""
        index = bisect_right(self.unloaded, (offset, 1 << 64)) - 1
        return index < 0 or offset >= self.unloaded[index][1]


def read_elf_strings(data: FileData) -> ElfStrings | None:
    """Return the use of the strings in an ELF file of 64 bits; None for any other file, or a damaged one.

    Of a static library, these are the sections of its members that no process loads.
    """
    head = bytes(data[:64])
    if head.startswith(AR):
        unloaded = sorted(chain.from_iterable(_members(data)))
        return ElfStrings(unloaded, (), (), (0, 0), False, (0, ()), "<")
    if len(head) < 64 or not is_elf64(head):
        return None
    try:
        return _read(data, "<" if head[5] == 1 else ">", head)
    except struct.error:
        return None


def _members(data: FileData) -> Iterator[Iterator[tuple[int, int]]]:
    """Yield the sections that no process loads of each member of a static library (ar(5))."""
    at = len(AR)
    while at + 60 <= len(data):
        header = bytes(data[at : at + 60])
        if header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            return
        start, size = at + 60, int(header[48:58])
        if data[start : start + 4] == ELF:
            member = read_elf_strings(data[start : start + size])
            found = member.unloaded if member is not None else ()
            yield ((begin + start, end + start) for begin, end in found)
        at = start + size + size % 2


def _read(data: FileData, order: str, head: bytes) -> ElfStrings:
    segments_at, sections_at = struct.unpack_from(order + "QQ", head, 32)
    size, count, section_size, section_count = struct.unpack_from(order + "HHHH", head, 54)
    segments: list[tuple[int, ...]] = []
    if size == 56:
        segments = list(_table(data, order + "IIQQQQQQ", segments_at, min(count, _MOST_SEGMENTS)))
    sections: list[tuple[int, ...]] = []
    if section_size == 64 and sections_at:
        section_count = section_count or next(_table(data, order + "IIQQQQIIQQ", sections_at, 1), (0,) * 10)[5]
        sections = list(_table(data, order + "IIQQQQIIQQ", sections_at, min(section_count, _MOST_SECTIONS)))
    loaded = [(at, at + filled, address) for kind, _, at, address, _, filled, *_ in segments if kind == _LOAD]
    unloaded = sorted(
        (offset, offset + length)
        for _, kind, flags, _, offset, length, *_ in sections
        if kind not in (0, _NOBITS) and not flags & _ALLOC
        if not any(start < offset + length and offset < end for start, end, _ in loaded)
    )
    where = next(((s[2], s[5] // 16) for s in segments if s[0] == _DYNAMIC_SEGMENT), (0, 0))
    tags = [(a, b) for a, b in _table(data, order + "QQ", where[0], min(where[1], _MOST_TAGS))]
    end = next((index for index, (tag, _) in enumerate(tags) if tag == 0), len(tags))
    tags = tags[: end + 1]
    known = dict(reversed(tags))
    address = known.get(_DT_STRTAB, 0)
    start = next((address - a + s for s, e, a in loaded if a <= address < a + e - s), 0)
    if not start or end == len(tags):
        return ElfStrings(unloaded, (), (), (0, 0), False, (0, ()), order)
    stop = min(start + known.get(_DT_STRSZ, 0), len(data))
    named = {value for tag, value in tags if tag in _DT_STRINGS}
    named.update(_names_of_sections(data, order, sections))
    paths = []
    for index, (tag, value) in enumerate(tags):
        if tag in (_DT_RPATH, _DT_RUNPATH) and start + value < stop:
            begin = start + value
            nul = data.find(b"\0", begin, min(stop, begin + _LONGEST))
            whole = bool(sections) and nul >= 0 and (value == 0 or data[begin - 1 : begin] == b"\0")
            if nul >= 0:
                behind = min((name for name in named if value < name < nul - start), default=nul - start + 1)
                paths.append(RunPath(index, begin, nul, behind - value - 1 if whole else 0))
    needed = [_text(data, start + value, stop) for tag, value in tags if tag in _LIBRARIES]
    opens = bool(paths) and any(data.find(name, start, stop) >= 0 for name in _OPEN)
    return ElfStrings(unloaded, tuple(paths), tuple(needed), (start, stop), opens, (where[0], tuple(tags)), order)


def _table(data: FileData, form: str, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    raw = bytes(data[offset : offset + count * struct.calcsize(form)])
    if len(raw) < count * struct.calcsize(form):
        raise struct.error("cut off")
    return struct.iter_unpack(form, raw)


def _text(data: FileData, start: int, stop: int) -> bytes:
    end = data.find(b"\0", start, min(stop, start + _LONGEST))
    return bytes(data[start:end]) if end >= 0 else b""


def _names_of_sections(data: FileData, order: str, sections: Sequence[tuple[int, ...]]) -> Iterator[int]:
    """Yield the offsets in the string table of the names of symbols and versions."""
    for _, kind, _, _, offset, length, _, info, *_ in sections:
        if kind == _DYNSYM:
            yield from (entry[0] for entry in _table(data, order + "I20x", offset, length // 24))
        elif kind in (_VERNEED, _VERDEF):
            yield from _versions(bytes(data[offset : offset + length]), order, kind == _VERNEED, info)


def _versions(table: bytes, order: str, needed: bool, count: int) -> Iterator[int]:
    at = 0
    for _ in range(min(count, _MOST_SECTIONS)):
        if needed:
            _, inner, file, first, following = struct.unpack_from(order + "HHIII", table, at)
            yield file
        else:
            _, _, _, inner, _, first, following = struct.unpack_from(order + "HHHHIII", table, at)
        name_at = at + first
        for _ in range(inner):
            form, which = ("IHHII", 3) if needed else ("II", 0)
            entry = struct.unpack_from(order + form, table, name_at)
            yield entry[which]
            name_at += entry[-1]
        at += following


def run_path_edits(data: FileData, elf: ElfStrings, aliases: Sequence[bytes], place: Place) -> list[Splice]:
    """Return the edits that make the search paths in the prefix independent of it, where that is possible.

    A folder in the prefix becomes ``$ORIGIN/...``. Where the string has no room for that, a folder in which no
    search of the loader finds a library is dropped, and a search path that has no folder left is removed. If
    neither is possible, the search path is left to be relocated in place. ``$ORIGIN`` is not used for a
    file that links in other folders lead to: it is the folder of the path that a file is opened by.

    Args:
        data: The file.
        elf: What it uses its strings for.
        aliases: All paths of the prefix.
        place: What surrounds the file.
    """
    edits: list[Splice] = []
    removed: list[int] = []
    for run_path in elf.run_paths:
        old = bytes(data[run_path.start : run_path.end])
        if not run_path.room or not any(alias in old for alias in aliases):
            continue
        new = _independent(data, run_path, elf, aliases, place)
        if new is not None and new != old:
            cleared = bytes(data[run_path.start : run_path.start + run_path.room + 1])
            edits.append(Splice(run_path.start, cleared, new.ljust(len(cleared), b"\0")))
            if not new:  # glibc before 2.26 takes an empty one for the current folder
                removed.append(run_path.entry)
    if removed:
        edits.append(_without_tags(data, elf, removed))
    unique = {edit.offset: edit for edit in edits}  # a string that two entries share
    return sorted(unique.values())


def _independent(
    data: FileData, run_path: RunPath, elf: ElfStrings, aliases: Sequence[bytes], place: Place
) -> bytes | None:
    """Return the search path without the prefix; None if it can't be rewritten."""
    old = bytes(data[run_path.start : run_path.end])
    entries: list[tuple[bytes | None, str]] = []
    for entry in old.split(b":"):
        plain = posixpath.normpath(re.sub(rb"^//+", b"/", entry))
        alias = next((a for a in aliases if plain == a or plain.startswith(a + b"/")), None)
        if alias is None:
            if any(entry == a or entry.startswith(a + b"/") for a in aliases):
                return None  # it leads out of the prefix by ..
            entries.append((entry, ""))
            continue
        folder = plain[len(alias) :].decode("utf-8", "surrogateescape").strip("/") or "."
        here = posixpath.relpath(folder, posixpath.dirname(place.path) or ".").encode("utf-8", "surrogateescape")
        relative = b"$ORIGIN" if here == b"." else b"$ORIGIN/" + here
        entries.append((None if place.linked else relative, folder))
    new = _joined((form for form, _ in entries), run_path.room)
    if new is None:
        inherited = elf.dynamic[1][run_path.entry][0] == _DT_RPATH
        opened = _opened(data, elf) if elf.opens else None
        used = (form for form, folder in entries if not folder or _is_used(folder, elf, opened, inherited, place))
        new = _joined(used, run_path.room)
    return new


def _joined(forms: Iterable[bytes | None], room: int) -> bytes | None:
    """Return the search path with these entries; None if one has no form, or if there is no room for it."""
    path: dict[bytes, None] = {}
    for form in forms:
        if form is None:
            return None
        path[form] = None
    new = b":".join(path)
    return new if len(new) <= room else None


def _opened(data: FileData, elf: ElfStrings) -> list[str]:
    """Return the names of libraries that are in a file as strings, but for those of its dynamic section."""
    names = []
    at = data.find(b".so", 0, len(data))
    while at >= 0:
        around = bytes(data[max(0, at - _LONGEST_NAME) : at + _LONGEST_NAME])
        found = _LIBRARY.match(around, around.rfind(b"\0", 0, min(at, _LONGEST_NAME)) + 1)
        if found is not None and not elf.names[0] <= at < elf.names[1]:
            names.append(found[1].decode())
        at = data.find(b".so", at + 1, len(data))
    return names


def _is_used(folder: str, elf: ElfStrings, opened: Sequence[str] | None, inherited: bool, place: Place) -> bool:
    """Return whether a search of the loader may find a library in a folder of the environment.

    DT_RUNPATH is searched for the libraries that the file is linked to and for those that it opens itself,
    DT_RPATH also for those that its libraries are linked to or open.

    Args:
        folder: The folder, relative to the prefix.
        elf: The file whose search path it is in.
        opened: The libraries that it may open, empty where it does not name them, None where it opens none.
        inherited: Whether it is in a DT_RPATH.
        place: What surrounds the file.
    """
    needed = [name.decode("utf-8", "surrogateescape") for name in elf.needed]
    if any(place.has(posixpath.normpath(f"{folder}/{name}")) for name in (*needed, *(opened or ()))):
        return True
    of_others = inherited and any(place.has_name(posixpath.basename(name)) for name in needed)
    return (of_others or opened == []) and place.holds(folder)


def _without_tags(data: FileData, elf: ElfStrings, removed: Sequence[int]) -> Splice:
    """Return the edit that takes entries out of the dynamic section; the entries behind them move up."""
    start, tags = elf.dynamic
    kept = [tag for index, tag in enumerate(tags) if index not in removed]
    kept += [(0, 0)] * (len(tags) - len(kept))
    packed = b"".join(struct.pack(elf.order + "QQ", *tag) for tag in kept)
    return Splice(start, bytes(data[start : start + len(packed)]), packed)
