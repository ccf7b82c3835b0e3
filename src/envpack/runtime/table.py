"""The JSON of the paths table.

``bundle/FORMAT.md`` is the written truth; this is its reader and writer, as `envpack.runtime.document` is the
manifest's. It is read in bulk: tables have 100,000 entries and more.
"""

from __future__ import annotations

import hashlib
import json
from operator import itemgetter
from typing import Any, Callable, Iterable, Iterator, Sequence

from envpack.runtime import limits
from envpack.runtime.checked import PLAIN, Value, bounded, encode, has_long_number, parse, safe_path
from envpack.runtime.document import fact, known_format
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.model import FORMAT, PathRecord, PathsTable
from envpack.runtime.relocation.relocation import ENCODINGS, Bytecode, Relocation, check_fits
from envpack.runtime.relocation.shebang import THROUGH_ENV, Shebang, forms

# --- writing ---


def table_to_json(table: PathsTable) -> bytes:
    """The paths table's bytes. Names that are not UTF-8 stand as lone surrogates U+DC80-U+DCFF (PEP 383)."""
    return join_table(segment_to_json(id, records) for id, records in table.segments.items())


def segment_to_json(id: str, records: Iterable[PathRecord]) -> bytes:
    """What the paths table says of one segment; it depends on nothing else."""
    placeholders: dict[bytes, int] = {}
    paths = [_record_json(record, placeholders) for record in records]
    document = {"id": id, "placeholders": [_spelled(placeholder) for placeholder in placeholders], "paths": paths}
    return json.dumps(document, separators=(",", ":")).encode()


def join_table(segments: Iterable[bytes]) -> bytes:
    """The paths table of these segments, each as `segment_to_json` gives it."""
    return b'{"format":%d,"segments":[%s]}\n' % (FORMAT, b",".join(segments))


def _spelled(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _record_json(record: PathRecord, placeholders: dict[bytes, int]) -> dict[str, Any]:
    document: dict[str, Any] = {"path": record.path, "type": record.type}
    if record.type == "file":
        document.update(
            mode=record.mode, size=record.size, sha256=record.sha256, offset=record.offset, mtime=record.mtime
        )
        if record.relocation is not None:
            document["relocation"] = _relocation_json(record.relocation, placeholders)
    elif record.type == "directory":
        document.update(mode=record.mode)
    else:
        document.update(target=record.target)
    return document


def _relocation_json(relocation: Relocation, placeholders: dict[bytes, int]) -> dict[str, Any]:
    document: dict[str, Any] = {"placeholder": placeholders.setdefault(relocation.placeholder, len(placeholders))}
    if relocation.shebang is not None:
        line = relocation.shebang
        extra = [line.form, line.coding] if line.coding else [line.form] if line.form else []
        document["shebang"] = [_spelled(line.lead), _spelled(line.rest), *extra]
    if relocation.text:
        document["text"] = list(relocation.text)
    if relocation.padded:
        document["padded"] = list(relocation.padded)
    if relocation.strings:
        document["strings"] = [list(string) for string in relocation.strings]
    if relocation.marshal:
        document["marshal"] = [list(string) for string in relocation.marshal]
    if relocation.encoded:
        document["encoded"] = {form: list(offsets) for form, offsets in relocation.encoded}
    if relocation.bytecode is not None:
        source = relocation.bytecode
        document["bytecode"] = [source.size, source.count, source.placeholder_length]
    return document


# --- reading ---


_TABLE_START, _TABLE_END = f'{{"format":{FORMAT},"segments":[', "]}"


def table_from_json(data: bytes) -> PathsTable:
    """Reads a paths table; raises FormatError naming the wrong entry, IntegrityError for an unsafe one, or beyond
    the limits."""
    bounds = {"most": limits.MAX_TABLE, "values": limits.MAX_TABLE_VALUES}
    text = bounded(data, PATHS_PATH, **bounds)
    table = None if has_long_number(data) else _as_written(text)
    if table is None:
        del text
        table = _Table()
        for segment in known_format(parse(data, PATHS_PATH, **bounds))["segments"].items():
            table.add(segment)
    return PathsTable(table.segments, table.digests)


class _Table:
    """A table that is being read."""

    def __init__(self) -> None:
        self.segments: dict[str, tuple[PathRecord, ...]] = {}
        self.digests: dict[str, str] = {}

    def add(self, segment: Value, content: str = "") -> None:
        """``content``: what is said of it, where that is at hand."""
        id = fact(segment["id"])
        if id in self.segments:
            raise FormatError(f"{segment.where}: a second segment {id!r}")
        placeholders = tuple(_read_placeholder(item) for item in segment["placeholders"].items())
        self.segments[id] = tuple(_read_records(segment["paths"], placeholders))
        self.digests[id] = _digest(content or _content(segment.value))


def _as_written(text: str) -> _Table | None:
    """The table, one segment after the other, so that memory is that of the records and one segment's JSON; None
    where any is not written as `segment_to_json` writes it, which is to be read with more care."""
    if not text.startswith(_TABLE_START):
        return None
    place, table = len(_TABLE_START), _Table()
    segments = Value(None, Value(None, None, PATHS_PATH), "segments")
    while not text.startswith("]", place):
        next_place = _add_written(text, place, table, segments)
        if next_place is None:
            return None
        place = next_place + text.startswith(",{", next_place)
    return table if text[place:].rstrip("\n") == _TABLE_END else None


def _add_written(text: str, place: int, table: _Table, segments: Value) -> int | None:
    try:
        segment, end = PLAIN.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    if type(segment) is not dict or [*segment] != ["id", "placeholders", "paths"]:
        return None
    content, start = _content(segment), f'{{"id":{json.dumps(segment["id"])},'
    if not text.startswith(start, place) or not text.startswith(content, place + len(start)):
        return None
    table.add(Value(segment, segments, len(table.segments)), content)
    return end


def _content(segment: dict[str, Any]) -> str:
    """What is said of a segment behind its id, as `segment_to_json` writes it."""
    content = {"placeholders": segment["placeholders"], "paths": segment["paths"]}
    try:
        return json.dumps(content, separators=(",", ":"))[1:]
    except RecursionError:
        raise FormatError(f"{PATHS_PATH}: nested too deep") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


_PLAIN = ("path", "type", "mode", "size", "sha256", "offset", "mtime")
_PLAIN_KEYS = frozenset(_PLAIN)
_RELOCATED_KEYS = frozenset((*_PLAIN, "relocation"))
_plain_fields = itemgetter(*_PLAIN)


_AT_ONCE = 1024
"""Records that are looked at together."""


def _read_records(paths: Value, placeholders: tuple[bytes, ...]) -> Iterator[PathRecord]:
    """The records of a segment. Files with ASCII names, as nearly all are, are looked at many at once, which takes
    a fraction of the time."""
    for start in range(0, len(paths.values()), _AT_ONCE):
        values = paths.values()[start : start + _AT_ONCE]
        rows = [_plain_fields(value) if _may_be_plain(value) else None for value in values]
        plain = _are_plain([row for row in rows if row is not None])
        for index, (value, row) in enumerate(zip(values, rows), start):
            if row is None or not plain:
                yield _read_record(Value(value, paths, index), placeholders)
                continue
            path, _, mode, size, sha256, offset, mtime = row
            relocation = None
            if len(value) > len(row):
                place = Value(value["relocation"], Value(value, paths, index), "relocation")
                relocation = _read_relocation(place, placeholders, size)
            yield PathRecord(path, "file", mode, size, sha256, offset, mtime, "", relocation)


def _may_be_plain(value: Any) -> bool:
    if type(value) is not dict or (value.keys() != _PLAIN_KEYS and value.keys() != _RELOCATED_KEYS):
        return False
    path = value["path"]
    return type(path) is str and path.isascii()


def _are_plain(rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether each of these can be a file's path, type, mode, size, digest, offset and mtime; also False where
    only looking at one alone can tell."""
    if not rows:
        return True
    paths, types, modes, sizes, digests, offsets, mtimes = zip(*rows)
    if set(map(type, digests)) != {str}:
        return False
    names = "/" + "/\n/".join(paths) + "/"
    return (
        types.count("file") == len(rows)
        and set(map(type, (*modes, *sizes, *offsets, *mtimes))) == {int}
        and min(*modes, *sizes, *offsets, *mtimes) >= 0
        and max(modes) <= 0o777
        and max(*sizes, *offsets) < 1 << 63
        and max(mtimes) <= limits.MAX_MTIME
        and set(map(len, digests)) == {64}
        and not "".join(digests).encode("ascii", "replace").translate(None, b"0123456789abcdef")
        and max(map(len, paths)) <= limits.MAX_PATH
        and names.count("\n") == len(rows) - 1
        and not any(part in names for part in ("//", "/./", "/../", "\0"))
    )


def _read_placeholder(place: Value) -> bytes:
    placeholder = encode(place.text(limits.MAX_PLACEHOLDER), place)
    if not placeholder:
        raise FormatError(f"{place.where}: an empty placeholder")
    return placeholder


def _read_record(place: Value, placeholders: tuple[bytes, ...]) -> PathRecord:
    path, type_ = safe_path(place["path"].text(limits.MAX_PATH)), place["type"].value
    if type_ == "file":
        size = place["size"].count()
        return PathRecord(
            path,
            type_,
            mode=_read_mode(place["mode"]),
            size=size,
            sha256=place["sha256"].digest(),
            offset=place["offset"].count(),
            mtime=_read_mtime(place["mtime"]),
            relocation=place.get("relocation", lambda p: _read_relocation(p, placeholders, size), None),
        )
    if type_ == "directory":
        return PathRecord(path, type_, mode=_read_mode(place["mode"]))
    if type_ == "symlink":
        return PathRecord(path, type_, target=_read_target(place["target"]))
    if type_ == "hardlink":
        return PathRecord(path, type_, target=safe_path(place["target"].text(limits.MAX_PATH)))
    raise FormatError(f"{place['type'].where}: file, hardlink, symlink or directory expected")


def _read_mode(place: Value) -> int:
    mode = place.count()
    if mode & ~0o777:
        raise IntegrityError(f"{place.where}: {mode:o} has more than permission bits")
    return mode


def _read_mtime(place: Value) -> int:
    mtime = place.count()
    if mtime > limits.MAX_MTIME:
        raise IntegrityError(f"{place.where}: {mtime} is beyond what an archive can state")
    return mtime


def _read_target(place: Value) -> str:
    target = place.text(limits.MAX_PATH)
    if not target or len(encode(target, place)) > limits.MAX_PATH:
        raise IntegrityError(f"{place.where}: a link's target has 1 to {limits.MAX_PATH} bytes")
    return target


def _read_relocation(place: Value, placeholders: tuple[bytes, ...], size: int) -> Relocation:
    index = place["placeholder"].count()
    if index >= len(placeholders):
        raise FormatError(f"{place.where}.placeholder: there are only {len(placeholders)}")
    parts = {name: read(place[name]) for name, read in _PARTS if name in place.value}
    relocation = Relocation(placeholders[index], **parts)
    check_fits(relocation, size, lambda: place.where)
    return relocation


_PARTS: tuple[tuple[str, Callable[[Value], Any]], ...] = (
    ("text", lambda place: place.counts(1)),
    ("padded", lambda place: place.counts(1)),
    ("strings", lambda place: tuple(item.counts(2) for item in place.items())),
    ("marshal", lambda place: tuple(item.counts(4) for item in place.items())),
    ("encoded", lambda place: _read_encoded(place)),
    ("shebang", lambda place: _read_shebang(place)),
    ("bytecode", lambda place: _read_bytecode(place)),
)


def _read_bytecode(place: Value) -> Bytecode | None:
    size, count, length = (item.count() for item in place.exactly(3, "[size, count, length]"))
    return Bytecode(size, count, length)


def _read_shebang(place: Value) -> Shebang | None:
    words = [item.text(limits.MAX_PLACEHOLDER) for item in place.items()]
    lead, rest, form, coding, *others = (*words, "", "", "", "")
    if not lead or not rest or any(others) or not coding.isascii():
        raise FormatError(f"{place.where}: [lead, rest] and perhaps a form and a coding expected")
    if form not in ("", THROUGH_ENV) and form not in forms():
        raise FormatError(f"{place.where}: {form!r} is no form that this envpack knows")
    return Shebang(encode(lead, place), encode(rest, place), form, coding)


def _read_encoded(place: Value) -> tuple[tuple[str, tuple[int, ...]], ...]:
    for form, item in place.pairs():
        if form not in ENCODINGS:
            raise FormatError(f"{item.where}: there is no such form that this envpack knows")
    return tuple((form, item.counts(1)) for form, item in sorted(place.pairs(), key=lambda pair: pair[0]))
