"""The headers of a tar archive, by envpack's own rules: Python's ``tarfile`` refuses more in each patch release.

The formats are v7, ustar and pax (POSIX.1-2017, pax, "Extended description") and GNU's (GNU tar manual, "Basic Tar
Format"), as conda-pack, GNU tar, bsdtar and Python write them. A header that two programs would read differently
is treated as damage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.tar import BLOCK, padding

_MAX_FIELD_SIZE = 1 << 20
"""Most bytes of a name, or of pax's further fields: Linux takes no path over 4,096 bytes (PATH_MAX)."""
_MAX_NUMBER = 1 << 63
"""Sizes and times from this value on fit into no system call (off_t and time_t of 64 bits)."""

_NULS = bytes(BLOCK)
_USTAR = b"ustar\0"
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=]+)=")
_SIZE = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(?P<whole>-?[0-9]{1,20})(?:\.[0-9]*)?(?P<exponent>[eE][-+]?[0-9]{1,3})?")
"""A time in pax. Python's ``tarfile`` writes a float as Python does, also with an exponent."""

_TYPES = {b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"5": "directory"}
_UNSUPPORTED = {b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
_LONG = {b"L": b"path", b"K": b"linkpath"}
_PAX = (b"x", b"X")  # "X": Solaris, the same
_KEYWORDS = (b"path", b"linkpath", b"size", b"mtime")
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata")

_Fields = dict[bytes, bytes]


class Stream(Protocol):
    """The source that an archive is read from; ``seek`` is called only to go forward."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, position: int, /) -> int: ...
    def tell(self) -> int: ...


class Header(NamedTuple):
    """The header of a member.

    Args:
        path: The path in the archive.
        type: "file", "hardlink", "symlink" or "directory".
        mode: The mode as stated.
        size: Bytes of data that follow, also after a hard link.
        mtime: Whole seconds since 1970.
        target: The target of a link, "" otherwise.
    """

    path: str
    type: str
    mode: int
    size: int
    mtime: int
    target: str


def is_header(block: bytes) -> bool:
    """Return whether a block has the checksum of a header: the sum of its bytes, signed in old programs."""
    field = block[148:156]
    match = _OCTAL.fullmatch(field)
    if match is None or not match[1] or len(block) != BLOCK:
        return False
    stated, total = int(match[1], 8), sum(block) - sum(field) + 8 * ord(" ")
    return stated == total or stated == total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def read_headers(stream: Stream) -> Iterator[Header]:
    """Yield the header of every member, in order; its data is next in ``stream``, to be read or left.

    Raises:
        IntegrityError: A header is damaged, ambiguous or of a kind that no environment has, or the archive's end
            is missing.
    """
    defaults: _Fields = {}
    stated: _Fields = {}
    extended_kinds: set[str] = set()  # the kinds of extended headers that stand before the member
    while (block := stream.read(BLOCK)) != _NULS:
        if len(block) < BLOCK:
            raise IntegrityError("the archive is truncated: the end-of-archive marker is missing")
        if not is_header(block):
            raise IntegrityError("damaged: bad checksum in a header")
        kind = block[156:157]
        if kind == b"g":
            defaults.update(_global_fields(_read_extended(stream, block)))
        elif kind in _PAX or kind in _LONG:
            name = "pax" if kind in _PAX else kind.decode()
            fields = (
                _pax_fields(_read_extended(stream, block)) if name == "pax" else _long_name(stream, block, kind)
            )
            if name in extended_kinds or not stated.keys().isdisjoint(fields):
                raise IntegrityError("damaged: two extended headers state the same field of one member")
            extended_kinds.add(name)
            stated.update(fields)
        else:
            header = _member(block, {**defaults, **stated})
            start = stream.tell()
            yield header
            stream.seek(start + header.size + padding(header.size))
            stated, extended_kinds = {}, set()
    if extended_kinds:
        raise IntegrityError("damaged: there is no member after an extended header")
    if len(stream.read(BLOCK)) < BLOCK:
        raise IntegrityError("the archive is truncated: the end-of-archive marker is incomplete")


def _read_extended(stream: Stream, block: bytes) -> bytes:
    """Return the data of an extended header."""
    size = _number(block[124:136], "size")
    if not 0 <= size <= _MAX_FIELD_SIZE:
        raise IntegrityError(f"a header states the invalid size {size}")
    data = stream.read(size + padding(size))
    if len(data) < size + padding(size):
        raise IntegrityError("the archive is truncated within a header")
    return data[:size]


def _long_name(stream: Stream, block: bytes, kind: bytes) -> _Fields:
    return {_LONG[kind]: _read_extended(stream, block).rstrip(b"\0")}


def _pax_fields(data: bytes) -> _Fields:
    """Return the fields of pax that are read here; of a field that is there twice the last one counts (POSIX)."""
    found: _Fields = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match is not None else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise IntegrityError("damaged: the records of a pax header are invalid")
        keyword, value = match[2], data[match.end() : end - 1]
        if keyword in _KEYWORDS:
            found[keyword] = value
        elif keyword.startswith(_SPARSE):
            found[b"sparse"] = b""
        at = end
    return found


def _global_fields(data: bytes) -> _Fields:
    """Return the fields of a global header; only a time can be true of all members that follow."""
    fields = _pax_fields(data)
    if not fields.keys() <= {b"mtime"}:
        raise IntegrityError("damaged: a global header states the name or size of every member")
    return fields


def _member(block: bytes, stated: _Fields) -> Header:
    path = _text(stated[b"path"] if b"path" in stated else _name(block))
    size = _size(stated[b"size"]) if b"size" in stated else _number(block[124:136], "size")
    if not 0 <= size < _MAX_NUMBER:
        raise IntegrityError(f"{path!r} states the invalid size {size}")
    code = block[156:157]
    unsupported = _UNSUPPORTED[b"S"] if b"sparse" in stated else _UNSUPPORTED.get(code)
    if unsupported:
        raise IntegrityError(f"{path!r} is {unsupported}, which is not allowed in an environment")
    kind = _TYPES.get(code)
    if kind is None:
        raise IntegrityError(f"{path!r} is a member of the unknown type {code!r}")
    if code == b"\0" and path.endswith("/"):  # v7 has no other mark of a folder
        kind = "directory"
        if size:
            raise IntegrityError(f"{path!r} is a directory with data")
    mtime = _time(stated[b"mtime"]) if b"mtime" in stated else _number(block[136:148], "time")
    if not -_MAX_NUMBER <= mtime < _MAX_NUMBER:
        raise IntegrityError(f"{path!r} has the invalid time {mtime}")
    target = ""
    if kind in ("hardlink", "symlink"):
        target = _text(stated[b"linkpath"] if b"linkpath" in stated else _until_nul(block[157:257]))
    if kind not in ("file", "hardlink"):
        size = 0  # whatever is stated: no program has data there
    return Header(path, kind, _number(block[100:108], "mode"), size, mtime, target)


def _name(block: bytes) -> bytes:
    name = _until_nul(block[:100])
    if block[257:263] == _USTAR and block[345]:  # GNU's and v7's headers have other things there
        return _until_nul(block[345:500]) + b"/" + name
    return name


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _number(field: bytes, what: str) -> int:
    """Return the number in a field.

    The field holds octal digits between spaces and NULs or, where its first bit is set, a signed binary number in
    the other bits.
    """
    if field[0] & 0x80:
        mark = 1 << (8 * len(field) - 1)
        value = int.from_bytes(field, "big") - mark
        return value - mark if value & (mark >> 1) else value
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise IntegrityError(f"damaged: the {what} in a header is not a number")
    return int(match[1] or b"0", 8)


def _size(value: bytes) -> int:
    if _SIZE.fullmatch(value) is None:
        raise IntegrityError(f"a pax header states the invalid size {_text(value[:40])!r}")
    return int(value)


def _time(value: bytes) -> int:
    match = _TIME.fullmatch(value)
    if match is None or not abs(float(value)) < _MAX_NUMBER:
        raise IntegrityError(f"a pax header states the invalid time {_text(value[:40])!r}")
    return int(float(value)) if match["exponent"] else int(match["whole"])
