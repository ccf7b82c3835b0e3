"""Mentions of the prefix that a search for its bytes does not see, and that no deployment can rewrite.

Text in UTF-16, URLs and escaped strings inside binary data, and everything that is compressed. They are found when
an environment is packed, and not discovered in production. Only files that no package proves are searched: what a
package published can't hold the place it was installed to later.
"""

from __future__ import annotations

import bz2
import json
import lzma
import mmap
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, NamedTuple

import zstandard
from isal import isal_zlib

from envpack.prefix.encoded import find_encoded, needles
from envpack.prefix.occurrences import find_all, find_prefix, stands_alone
from envpack.prefix.prune import translate

LIMIT = 128 << 20
"""Bytes of one file, unpacked, that are searched: a fifth of a second. A limit on time would make what is found
depend on the machine."""

_CHUNK = 1 << 20
_AROUND = 64
"""Bytes on both sides of an occurrence that tell whether it stands alone."""

_MOST_NAMED = 3
_ZIP, _ZIP_END, _ZIP_END_REACH = b"PK\x03\x04", b"PK\x05\x06", 22 + 65535
_DEEPEST = 3
"""Archives within archives: a wheel in a zip in a zip."""


class Hidden(NamedTuple):
    """``remarks``: what was found, in words; ``cut``: whether the file is too large to be searched to its end."""

    remarks: tuple[str, ...]
    cut: bool


class Search:
    """A search for one environment's prefix, in every spelling of it."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self._spellings = tuple(spellings)
        self._wide = tuple(filter(None, map(_wide, spellings)))
        self.encoded = needles(spellings)
        """What `find_encoded` is to search for."""
        longest = max(len(needle) for needle in (*self._spellings, *self._wide, *(n for n, _ in self.encoded)))
        self._tail = longest + 2 * _AROUND

    def __call__(self, data: bytes | mmap.mmap, *, relocated: bool) -> Hidden:
        """Searches one file; ``relocated``: what it mentions in the forms of `encoded` is relocated already."""
        remarks = [f"{kind}: the build prefix stays{where}" for kind, where in self._in(data, relocated)]
        budget = _Budget(LIMIT)
        remarks += self._packed(data, budget, _DEEPEST)
        return Hidden(tuple(remarks), budget.left <= 0)

    def _in(self, data: bytes | mmap.mmap, relocated: bool) -> Iterator[tuple[str, str]]:
        wide = sorted(self._find_wide(data))
        if wide:
            yield "UTF-16 text", _at(wide)
        if not relocated:
            found = find_encoded(data, self.encoded)
            for form in sorted({place.form for place in found}):
                yield _FORMS[form], _at([place.offset for place in found if place.form == form])

    def _find_wide(self, data: bytes | mmap.mmap) -> Iterator[int]:
        for needle in self._wide:
            for offset in find_all(data, needle):
                # to ASCII on both sides, one byte order read in the other's place is the same
                before = _narrow(data[max(offset % 2, offset - 2 * _AROUND) : offset])
                end = offset + len(needle) + len(needle) % 2
                whole = before + b"/x" + _narrow(data[end : end + 2 * _AROUND])
                if stands_alone(whole, len(before), len(before) + 2):
                    yield offset

    def _mentions(self, data: bytes, last: bool) -> bool:
        """Whether it is in a piece of unpacked data; ``last``: nothing follows it."""
        end = len(data) if last else len(data) - _AROUND
        plain = any(place.offset + place.length <= end for place in find_prefix(data, self._spellings))
        return plain or any(self._find_wide(data)) or bool(find_encoded(data, self.encoded))

    def _mentioned(self, chunks: Iterator[bytes]) -> bool:
        window = b""
        for chunk in chunks:
            if window and self._mentions(window, last=False):
                return True
            window = window[-self._tail :] + chunk
        return bool(window) and self._mentions(window, last=True)

    def _packed(self, data: bytes | mmap.mmap, budget: _Budget, depth: int) -> list[str]:
        if data[:4] == _ZIP or (data[:2] == b"#!" and _ends_as_zip(data)):
            members = self._members(data, budget, depth)
            return [_in_members(members)] if members else []
        for magic, name, unpack in _STREAMS:
            if data[: len(magic)] == magic:
                found = self._mentioned(budget.spend(unpack(data)))
                return [f"{name}, compressed: the build prefix stays"] if found else []
        return []

    def _members(self, data: bytes | mmap.mmap, budget: _Budget, depth: int) -> list[str]:
        found = []
        for name, stored, chunks in _zip_members(data):
            first = next(_until_broken(chunks), b"")
            if depth > 1 and first[:4] in _NESTED:
                hit = bool(self._packed(b"".join(budget.spend(chain([first], chunks))), budget, depth - 1))
            else:
                # what is stored as it is, the search for the bytes themselves has seen
                hit = not stored and self._mentioned(budget.spend(chain([first], chunks)))
            if hit:
                found.append(name)
            if budget.left <= 0:
                break
        return found


@cache
def _harmless() -> re.Pattern[str]:
    text = resources.files("envpack.prefix").joinpath("harmless.json").read_text(encoding="utf-8")
    return re.compile("|".join(translate(rule["glob"]) for rule in json.loads(text)["rules"]), re.DOTALL)


def matters(path: str) -> bool:
    """Whether a mention that stays in the file at ``path`` may keep a program from working; as far as is known."""
    return not _harmless().fullmatch(path)


_FORMS = {
    "json": "escaped string",
    "json-slashes": "escaped string",
    "percent": "percent-encoded text",
    "url": "percent-encoded text",
}


def _at(offsets: Sequence[int]) -> str:
    return f" at byte {', '.join(map(str, offsets[:_MOST_NAMED]))}" + (
        ", ..." if len(offsets) > _MOST_NAMED else ""
    )


def _in_members(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
    )
    return f"zip archive, compressed {shown}: the build prefix stays"


def _wide(spelling: bytes) -> bytes:
    """What UTF-16 of both byte orders has in common: the code units without the very first or last byte."""
    try:
        little = spelling.decode("utf-8").encode("utf-16-le")
    except UnicodeDecodeError:
        return b""
    return little[:-1] if spelling.isascii() else little


def _narrow(data: bytes) -> bytes:
    return data[: len(data) // 2 * 2].decode("utf-16-le", "replace").encode()


class _Budget:
    """How many bytes may still be unpacked."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in _until_broken(chunks):
            self.left -= len(chunk)
            yield chunk
            if self.left <= 0:
                return


# --- unpacking, piece by piece ---

_IGZIP_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub has an instance
_BROKEN = (OSError, EOFError, ValueError, struct.error, lzma.LZMAError, zstandard.ZstdError, _IGZIP_ERROR)


def _until_broken(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What can be unpacked of a file that only begins like one of its kind, or is damaged."""
    with suppress(*_BROKEN):
        yield from chunks


def _pump(make: Callable[[], Any], data: bytes | mmap.mmap | memoryview) -> Iterator[bytes]:
    """The output of decompressors as bz2, lzma and isal have them; further members are unpacked as well."""
    view = memoryview(data)
    while view:
        decompressor = make()
        done = 0
        pending = b""
        while not decompressor.eof:
            if not pending and getattr(decompressor, "needs_input", True):
                pending = bytes(view[done : done + _CHUNK])
                done += len(pending)
            chunk = decompressor.decompress(pending, _CHUNK)
            if not chunk and done == len(view) and not decompressor.eof:
                return
            pending = getattr(decompressor, "unconsumed_tail", b"")
            if chunk:
                yield chunk
        view = view[done - len(decompressor.unused_data) :]
        if view and view[0] == 0:  # padding behind the last member
            return


def _gzip(data: bytes | mmap.mmap) -> Iterator[bytes]:
    return _pump(lambda: isal_zlib.decompressobj(31), data)


def _bzip2(data: bytes | mmap.mmap) -> Iterator[bytes]:
    return _pump(bz2.BZ2Decompressor, data)


def _xz(data: bytes | mmap.mmap) -> Iterator[bytes]:
    return _pump(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), data)


def _zstd(data: bytes | mmap.mmap | memoryview) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        memoryview(data), read_across_frames=True
    ) as reader:
        while chunk := reader.read(_CHUNK):
            yield chunk


_STREAMS: tuple[tuple[bytes, str, Callable[[bytes | mmap.mmap], Iterator[bytes]]], ...] = (
    (b"\x1f\x8b\x08", "gzip file", _gzip),
    (b"BZh", "bzip2 file", _bzip2),
    (b"\xfd7zXZ\0", "xz file", _xz),
    (b"\x28\xb5\x2f\xfd", "zstandard file", _zstd),
)
_NESTED = frozenset(
    {_ZIP, b"\x28\xb5\x2f\xfd", b"\xfd7zX"} | {b"\x1f\x8b\x08" + bytes((flags,)) for flags in range(32)}
)

_METHODS: dict[int, Callable[[memoryview], Iterator[bytes]]] = {
    zipfile.ZIP_STORED: lambda data: iter([bytes(data)] if data else []),
    zipfile.ZIP_DEFLATED: lambda data: _pump(lambda: isal_zlib.decompressobj(-15), data),
    zipfile.ZIP_BZIP2: lambda data: _pump(bz2.BZ2Decompressor, data),
    93: _zstd,
}
"""By the compression methods of PKWARE's APPNOTE, 4.4.5."""


def _ends_as_zip(data: bytes | mmap.mmap) -> bool:
    return data.find(_ZIP_END, max(0, len(data) - _ZIP_END_REACH)) >= 0


def _zip_members(data: bytes | mmap.mmap) -> Iterator[tuple[str, bool, Iterator[bytes]]]:
    """Name, whether it is stored as it is, and unpacked data of each member; nothing of a damaged archive."""
    view = memoryview(data)
    try:
        with zipfile.ZipFile(_File(view)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, *_BROKEN):
        return
    for member in members:
        head = bytes(view[member.header_offset : member.header_offset + 30])
        method = _METHODS.get(member.compress_type)
        if len(head) < 30 or method is None or member.flag_bits & 1 or member.is_dir():
            continue
        name_size, extra_size = struct.unpack_from("<HH", head, 26)
        start = member.header_offset + 30 + name_size + extra_size
        body = view[start : start + member.compress_size]
        yield member.filename, member.compress_type == zipfile.ZIP_STORED, method(body)


class _File:
    """Bytes as the file that zipfile reads the directory from, without a copy."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._view))[whence]
        if at < 0:
            raise OSError("before the start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._view[self._at :] if size < 0 else self._view[self._at : self._at + size])
        self._at += len(data)
        return data
