"""The stored form of binaries that no package published: mentions of the prefix are replaced in place.

Nothing moves, so pointers to any part of a string stay right: a shorter prefix is followed by slashes, which every
path accepts, also where the length of a string is compiled in.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from envpack.prefix.relocate.elf_strings import read_elf_strings, run_path_edits
from envpack.prefix.relocate.occurrences import (
    Canonical,
    Occurrence,
    canonical_placeholder,
    is_longer,
    remark,
    replaced,
    stands_alone,
)
from envpack.prefix.relocate.surroundings import Place
from envpack.prefix.scan.windowed_file import FileData, in_memory, part
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.splice import Splice

_NO_STRING = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
# The rest of a path behind the prefix, in a message too: "at /opt/env/include/x.h:12, in f".
_REST = re.compile(rb"/[^\x00-\x20\"'<>:;,()|`$\x7f]+")
_LONGEST_PATH = 4096

_SUFFIXES = r"""
    .h .hh .hpp .hxx .h++ .inc .inl .ipp .tcc .tpp .cuh .c .cc .cpp .cxx .c++ .cu .m .mm .s .asm .y .l
    .pyx .pxd .pxi .f .for .f77 .f90 .f95 .f03 .f08 .rs .go .d .zig .swift .adb .ads
"""
SOURCES = frozenset(_SUFFIXES.split())
_LONGEST_SUFFIX = max(map(len, SOURCES))
"""Suffixes of sources and headers of compiled languages, in lower case, as GCC, Cython and others document them:
compilers write their names into programs (``__FILE__``), which only print them."""


_SURE = 20
"""Bytes of the shortest prefix that is found without anything that separates it from its neighbours: "/env" is
part of "src/environment"."""
_WORD = re.compile(rb"[\w\x80-\xff]")
_RUN_BEFORE = re.compile(rb"[\w.\-+@~/\x80-\xff]+\Z")
_FARTHEST = 256


def with_neighbours(
    data: FileData, found: Sequence[Occurrence], left: Sequence[Occurrence], longer: Sequence[bytes]
) -> tuple[list[Occurrence], list[Occurrence]]:
    """Return the mentions of a binary, with those beside the bytes of a neighbouring string, and the others.

    Rust, Go and tables of fixed width put no NUL between strings: a word that follows the prefix is the next
    string at least as often as the rest of a longer name, unless a path of that name exists. Before the prefix, a
    word without a slash is the previous string; with a slash it is the beginning of a longer path.

    Args:
        data: The file.
        found: Mentions that stand alone, ascending.
        left: The others, ascending.
        longer: See `Place.longer`.
    """
    alone, others = set(found), []
    taken: list[Occurrence] = []
    for occurrence in sorted((*found, *left)):
        begin = taken[-1].offset + taken[-1].length if taken else 0
        if occurrence in alone or _is_neighbour(data, occurrence, begin, longer):
            taken.append(occurrence)
        else:
            others.append(occurrence)
    return taken, others


def _is_neighbour(data: FileData, occurrence: Occurrence, begin: int, longer: Sequence[bytes]) -> bool:
    """Return whether what surrounds a mention are other strings; none of them begins before ``begin``."""
    offset, length = occurrence
    if length < _SURE or is_longer(data, occurrence, longer):
        return False
    end = offset + length
    begin = max(begin, offset - _FARTHEST)
    run = _RUN_BEFORE.search(data[begin:offset])
    if run is not None:
        before, word = data[begin : begin + run.start()], run.group()
        if not _WORD.match(word[-1:]) or b"/" in word or before.endswith((b"$", b"%", b"\\")):
            return False
    return bool(_WORD.match(data[end : end + 1])) or stands_alone(data, offset, end, offset)


def canonicalise_binary(
    data: FileData, found: Sequence[Occurrence], aliases: Sequence[bytes], place: Place
) -> Canonical:
    """Return the stored form of a binary.

    One file has one length of placeholder; a longer path of the prefix is stored as the placeholder and slashes.

    Args:
        data: The file's bytes.
        found: The mentions of the prefix, ascending.
        aliases: All paths of the prefix.
        place: What surrounds it.
    """
    if not found:
        return Canonical()
    elf = read_elf_strings(data)
    edits: list[Splice] = []
    if elf is not None and elf.run_paths:
        edits = run_path_edits(data, elf, aliases, place)
        found = [o for o in found if not any(e.offset <= o.offset < e.offset + len(e.old) for e in edits)]
    left: list[Occurrence] = []
    bound: list[Occurrence] = []
    optional: list[Occurrence] = []
    names: dict[str, None] = {}
    end = -1
    for occurrence in found:
        if occurrence.offset >= end:
            end = data.find(b"\0", occurrence.offset)
            end = len(data) if end < 0 else end
            if any(map(_NO_STRING.search, in_memory([part(data, occurrence.offset, end)]))):
                left.append(occurrence)
                end = occurrence.offset
                continue
        source = _source(data, occurrence, place)
        names.update({source: None} if source else {})
        is_bound = not source and (elf is None or elf.is_loaded(occurrence.offset))
        (bound if is_bound else optional).append(occurrence)
    remarks = (remark(left, "data that is no text"),) if left else ()
    kept = [*bound, *optional]
    if not kept:
        return Canonical(tuple(edits), None, remarks)
    least = min(length for _, length in kept)
    placeholder = canonical_placeholder(least)
    for occurrence in kept:
        edits += replaced([occurrence], data, placeholder.ljust(occurrence.length, b"/"))
    relocation = Relocation(
        placeholder,
        padded=tuple(sorted(offset for offset, _ in bound)),
        optional=tuple(sorted(offset for offset, _ in optional)),
    )
    return Canonical(tuple(sorted(edits)), relocation, remarks, tuple(names))


def _source(data: FileData, occurrence: Occurrence, place: Place) -> str:
    """Return the source or header of the environment that a mention names; "" where it names none."""
    end = occurrence.offset + occurrence.length
    rest = _REST.match(bytes(data[end : end + _LONGEST_PATH]))
    if rest is None:
        return ""
    path = posixpath.normpath(rest.group().decode("utf-8", "surrogateescape").strip("/")).rstrip(".")
    return next(filter(place.has_source, _names_of_sources(path)), "")


def _names_of_sources(path: str) -> Iterator[str]:
    """Yield the names of sources and headers that a path begins with, the longest first.

    Where no NUL separates strings, the next one follows: "include/check.hword", "src/lib.rscalled".
    """
    folder, name = posixpath.split(path)
    if "." not in name and "include" in folder.split("/"):
        yield path
    for dot in reversed([at for at, c in enumerate(name) if c == "."]):
        for end in range(min(len(name), dot + _LONGEST_SUFFIX), dot + 1, -1):
            if name[dot:end].lower() in SOURCES:
                yield posixpath.join(folder, name[:end])


def slashes(data: FileData, start: int, most: int) -> int:
    """Return the number of consecutive slashes at an offset.

    Args:
        data: The bytes of the file.
        start: The offset.
        most: The maximum number to count.
    """
    count = 0
    while count < most and data[start + count : start + count + 1] == b"/":
        count += 1
    return count
