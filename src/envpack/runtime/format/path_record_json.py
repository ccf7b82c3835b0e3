"""Reader and writer of the JSON of one record of the paths table, and the digest of a segment's JSON.

The reader checks every field by itself.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import JsonValue, encode, safe_path
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.relocation.relocation import ENCODINGS, Bytecode, Relocation, check_fits
from envpack.runtime.relocation.shebang import THROUGH_ENV, Shebang, forms


def spelled(data: bytes) -> str:
    """Return ``data`` as text; bytes that are not UTF-8 become lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def record_json(record: PathRecord, placeholders: dict[bytes, int]) -> dict[str, Any]:
    """Return the JSON object of ``record``.

    Args:
        record: the record to write.
        placeholders: the segment's placeholders and their indexes; a new placeholder is added.
    """
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
        document["shebang"] = [spelled(line.lead), spelled(line.rest), *extra]
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


def read_placeholder(place: JsonValue) -> bytes:
    """Return a placeholder of 1 to `limits.MAX_PLACEHOLDER` characters; raise FormatError for any other value."""
    placeholder = encode(place.text(limits.MAX_PLACEHOLDER), place)
    if not placeholder:
        raise FormatError(f"{place.where}: an empty placeholder")
    return placeholder


def read_record(place: JsonValue, placeholders: tuple[bytes, ...]) -> PathRecord:
    """Return the record that a JSON object describes.

    Args:
        place: the JSON object.
        placeholders: the segment's placeholders, by index.

    Raises:
        FormatError: a field is missing or wrong; the message names it.
        IntegrityError: the path is unsafe, or a value is beyond the limits.
    """
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
            relocation=place.get("relocation", lambda p: read_relocation(p, placeholders, size), None),
        )
    if type_ == "directory":
        return PathRecord(path, type_, mode=_read_mode(place["mode"]))
    if type_ == "symlink":
        return PathRecord(path, type_, target=_read_target(place["target"]))
    if type_ == "hardlink":
        return PathRecord(path, type_, target=safe_path(place["target"].text(limits.MAX_PATH)))
    raise FormatError(f"{place['type'].where}: file, hardlink, symlink or directory expected")


def _read_mode(place: JsonValue) -> int:
    mode = place.count()
    if mode & ~0o777:
        raise IntegrityError(f"{place.where}: {mode:o} has more than permission bits")
    return mode


def _read_mtime(place: JsonValue) -> int:
    mtime = place.count()
    if mtime > limits.MAX_MTIME:
        raise IntegrityError(f"{place.where}: {mtime} is beyond what an archive can state")
    return mtime


def _read_target(place: JsonValue) -> str:
    target = place.text(limits.MAX_PATH)
    if not target or len(encode(target, place)) > limits.MAX_PATH:
        raise IntegrityError(f"{place.where}: a link's target has 1 to {limits.MAX_PATH} bytes")
    return target


def read_relocation(place: JsonValue, placeholders: tuple[bytes, ...], size: int) -> Relocation:
    """Return the relocation that a JSON object describes.

    Args:
        place: the JSON object.
        placeholders: the segment's placeholders, by index.
        size: stored bytes of the file; all replacements must lie within them.

    Raises:
        FormatError: a field is missing or wrong; the message names it.
        IntegrityError: a replacement does not fit into the file.
    """
    index = place["placeholder"].count()
    if index >= len(placeholders):
        raise FormatError(f"{place.where}.placeholder: there are only {len(placeholders)}")
    parts = {name: read(place[name]) for name, read in _PARTS if name in place.value}
    relocation = Relocation(placeholders[index], **parts)
    check_fits(relocation, size, lambda: place.where)
    return relocation


_PARTS: tuple[tuple[str, Callable[[JsonValue], Any]], ...] = (
    ("text", lambda place: place.counts(1)),
    ("padded", lambda place: place.counts(1)),
    ("strings", lambda place: tuple(item.counts(2) for item in place.items())),
    ("marshal", lambda place: tuple(item.counts(4) for item in place.items())),
    ("encoded", lambda place: _read_encoded(place)),
    ("shebang", lambda place: _read_shebang(place)),
    ("bytecode", lambda place: _read_bytecode(place)),
)


def _read_bytecode(place: JsonValue) -> Bytecode | None:
    size, count, length = (item.count() for item in place.exactly(3, "[size, count, length]"))
    return Bytecode(size, count, length)


def _read_shebang(place: JsonValue) -> Shebang | None:
    words = [item.text(limits.MAX_PLACEHOLDER) for item in place.items()]
    lead, rest, form, coding, *others = (*words, "", "", "", "")
    if not lead or not rest or any(others) or not coding.isascii():
        raise FormatError(f"{place.where}: [lead, rest] and perhaps a form and a coding expected")
    if form not in ("", THROUGH_ENV) and form not in forms():
        raise FormatError(f"{place.where}: {form!r} is no form that this envpack knows")
    return Shebang(encode(lead, place), encode(rest, place), form, coding)


def _read_encoded(place: JsonValue) -> tuple[tuple[str, tuple[int, ...]], ...]:
    for form, item in place.pairs():
        if form not in ENCODINGS:
            raise FormatError(f"{item.where}: there is no such form that this envpack knows")
    return tuple((form, item.counts(1)) for form, item in sorted(place.pairs(), key=lambda pair: pair[0]))


def segment_content(segment: dict[str, Any]) -> str:
    """Return the JSON text of a segment after its id, as envpack writes it; FormatError if nested too deep."""
    content = {"placeholders": segment["placeholders"], "paths": segment["paths"]}
    try:
        return json.dumps(content, separators=(",", ":"))[1:]
    except RecursionError:
        raise FormatError(f"{PATHS_PATH}: nested too deep") from None


def content_digest(content: str) -> str:
    """Return the digest of a segment from its `segment_content`."""
    return hashlib.sha256(content.encode("ascii")).hexdigest()
