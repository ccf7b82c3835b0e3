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
    if relocation.optional:
        document["optional"] = list(relocation.optional)
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


def read_placeholder(node: JsonValue) -> bytes:
    """Return a placeholder of 1 to `limits.MAX_PLACEHOLDER` characters; raise FormatError for any other value."""
    placeholder = encode(node.text(limits.MAX_PLACEHOLDER), node)
    if not placeholder:
        raise FormatError(f"{node.where}: an empty placeholder")
    return placeholder


def read_record(node: JsonValue, placeholders: tuple[bytes, ...]) -> PathRecord:
    """Return the record that a JSON object describes.

    Args:
        node: the JSON object.
        placeholders: the segment's placeholders, by index.

    Raises:
        FormatError: a field is missing or wrong; the message names it.
        IntegrityError: the path is unsafe, or a value is beyond the limits.
    """
    path, type_ = safe_path(node["path"].text(limits.MAX_PATH)), node["type"].value
    if type_ == "file":
        size = node["size"].count()
        return PathRecord(
            path,
            type_,
            mode=_read_mode(node["mode"]),
            size=size,
            sha256=node["sha256"].digest(),
            offset=node["offset"].count(),
            mtime=_read_mtime(node["mtime"]),
            relocation=node.get("relocation", lambda p: read_relocation(p, placeholders, size), None),
        )
    if type_ == "directory":
        return PathRecord(path, type_, mode=_read_mode(node["mode"]))
    if type_ == "symlink":
        return PathRecord(path, type_, target=_read_target(node["target"]))
    if type_ == "hardlink":
        return PathRecord(path, type_, target=safe_path(node["target"].text(limits.MAX_PATH)))
    raise FormatError(f"{node['type'].where}: file, hardlink, symlink or directory expected")


def _read_mode(node: JsonValue) -> int:
    mode = node.count()
    if mode & ~0o777:
        raise IntegrityError(f"{node.where}: {mode:o} has bits that are not permissions")
    return mode


def _read_mtime(node: JsonValue) -> int:
    mtime = node.count()
    if mtime > limits.MAX_MTIME:
        raise IntegrityError(f"{node.where}: {mtime} is a time that an archive can't record")
    return mtime


def _read_target(node: JsonValue) -> str:
    target = node.text(limits.MAX_PATH)
    if not target or len(encode(target, node)) > limits.MAX_PATH:
        raise IntegrityError(f"{node.where}: the target of a link must have 1 to {limits.MAX_PATH} bytes")
    return target


def read_relocation(node: JsonValue, placeholders: tuple[bytes, ...], size: int) -> Relocation:
    """Return the relocation that a JSON object describes.

    Args:
        node: the JSON object.
        placeholders: the segment's placeholders, by index.
        size: stored bytes of the file; all replacements must lie within them.

    Raises:
        FormatError: a field is missing or wrong; the message names it.
        IntegrityError: a replacement does not fit into the file.
    """
    index = node["placeholder"].count()
    if index >= len(placeholders):
        raise FormatError(f"{node.where}.placeholder: there are only {len(placeholders)}")
    parts = {name: read(node[name]) for name, read in _PARTS if name in node.value}
    relocation = Relocation(placeholders[index], **parts)
    check_fits(relocation, size, lambda: node.where)
    return relocation


_PARTS: tuple[tuple[str, Callable[[JsonValue], Any]], ...] = (
    ("text", lambda node: node.counts(1)),
    ("padded", lambda node: node.counts(1)),
    ("optional", lambda node: node.counts(1)),
    ("strings", lambda node: tuple(item.counts(2) for item in node.items())),
    ("marshal", lambda node: tuple(item.counts(4) for item in node.items())),
    ("encoded", lambda node: _read_encoded(node)),
    ("shebang", lambda node: _read_shebang(node)),
    ("bytecode", lambda node: _read_bytecode(node)),
)


def _read_bytecode(node: JsonValue) -> Bytecode | None:
    size, count, length = (item.count() for item in node.exactly(3, "[size, count, length]"))
    return Bytecode(size, count, length)


def _read_shebang(node: JsonValue) -> Shebang | None:
    words = [item.text(limits.MAX_PLACEHOLDER) for item in node.items()]
    lead, rest, form, coding, *others = (*words, "", "", "", "")
    if not lead or not rest or any(others) or not coding.isascii():
        raise FormatError(f"{node.where}: [lead, rest] and perhaps a form and a coding expected")
    if form not in ("", THROUGH_ENV) and form not in forms():
        raise FormatError(f"{node.where}: this version of envpack does not know the form {form!r}")
    return Shebang(encode(lead, node), encode(rest, node), form, coding)


def _read_encoded(node: JsonValue) -> tuple[tuple[str, tuple[int, ...]], ...]:
    for form, item in node.pairs():
        if form not in ENCODINGS:
            raise FormatError(f"{item.where}: this version of envpack does not know this form")
    return tuple((form, item.counts(1)) for form, item in sorted(node.pairs(), key=lambda pair: pair[0]))


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
