"""The JSON of the manifest and of the paths table.

``bundle/FORMAT.md`` is the written truth; this is its reader and writer. Reading checks every field it uses and
raises FormatError naming the place, so that nothing later has to doubt a value's type or range.
"""

from __future__ import annotations

import json
from typing import Any, Callable, TypeVar

from envpack.runtime.changes import Changes, changes_from_json, changes_to_json
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.firstline import THROUGH_ENV, Shebang, forms
from envpack.runtime.model import (
    FORMAT,
    MANIFEST_PATH,
    PATHS_PATH,
    Frame,
    Manifest,
    Package,
    PathRecord,
    PathsTable,
    Segment,
)
from envpack.runtime.needs import Needs, needs_from_json, needs_to_json
from envpack.runtime.relocate import ENCODINGS, Bytecode, Relocation, splices

T = TypeVar("T")

# --- writing ---


def manifest_to_json(manifest: Manifest) -> bytes:
    """The manifest's bytes: UTF-8 JSON, keys sorted, so that equal manifests are equal bytes."""
    document = {
        "format": manifest.format,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "created": manifest.created,
        "writer": manifest.writer,
        "codec": manifest.codec,
        "size": manifest.size,
        "files": manifest.files,
        "python": manifest.python,
        "prefix": {"longest": manifest.longest_prefix, "limited_by": manifest.limited_by},
        "paths": {
            "size": manifest.paths_size,
            "sha256": manifest.paths_sha256,
            "frames": _frames(manifest.head),
        },
        "segments": [{"id": s.id, "frames": _frames(s.frames)} for s in manifest.segments],
        "packages": [{k: v for k, v in vars(p).items() if v not in ("", None)} for p in manifest.packages],
        "requires": dict(manifest.requires),
        "needs": needs_to_json(manifest.needs),
        "variables": dict(manifest.variables),
        "test": list(manifest.test),
        "commands": dict(manifest.commands),
        "changes": changes_to_json(manifest.changes),
    }
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _frames(frames: tuple[Frame, ...]) -> list[list[Any]]:
    return [[frame.stored, frame.size, frame.sha256] for frame in frames]


def table_to_json(table: PathsTable) -> bytes:
    """The paths table's bytes. Names that are not UTF-8 stand as lone surrogates U+DC80-U+DCFF (PEP 383)."""
    placeholders: dict[bytes, int] = {}
    segments = [
        {"id": id, "paths": [_record_json(record, placeholders) for record in records]}
        for id, records in table.segments.items()
    ]
    document = {
        "format": FORMAT,
        "placeholders": [_text(placeholder) for placeholder in placeholders],
        "segments": segments,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
        document["shebang"] = [_text(line.lead), _text(line.rest), *extra]
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


class _Place:
    """A value in a JSON document and where it stands, to be taken apart with checks."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def _is(self, kind: Callable[[Any], bool], expected: str) -> Any:
        if not kind(self.value):
            raise FormatError(f"{self.where}: {expected} expected, found {_short(self.value)}")
        return self.value

    def text(self) -> str:
        value: str = self._is(lambda v: isinstance(v, str), "a string")
        return value

    def count(self) -> int:
        value: int = self._is(lambda v: type(v) is int and 0 <= v < 1 << 63, "a whole number, not negative")
        return value

    def counts(self, least: int) -> tuple[int, ...]:
        numbers = tuple(item.count() for item in self.items())
        if len(numbers) < least:
            raise FormatError(f"{self.where}: at least {least} numbers expected, found {len(numbers)}")
        return numbers

    def digest(self) -> str:
        value: str = self._is(
            lambda v: isinstance(v, str) and len(v) == 64 and not set(v) - set("0123456789abcdef"), "a sha256"
        )
        return value

    def items(self) -> list[_Place]:
        value = self._is(lambda v: isinstance(v, list), "a list")
        return [_Place(item, f"{self.where}[{index}]") for index, item in enumerate(value)]

    def pairs(self) -> dict[str, _Place]:
        value = self._is(lambda v: isinstance(v, dict), "an object")
        return {key: _Place(item, f"{self.where}.{key}") for key, item in value.items()}

    def __getitem__(self, key: str) -> _Place:
        value = self._is(lambda v: isinstance(v, dict), "an object")
        if key not in value:
            raise FormatError(f"{self.where}: the field {key!r} is missing")
        return _Place(value[key], f"{self.where}.{key}")

    def get(self, key: str, read: Callable[[_Place], T], default: T) -> T:
        return read(self[key]) if key in self.pairs() else default


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _parse(data: bytes, name: str) -> _Place:
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"{name}: not valid JSON ({problem})") from None
    place = _Place(document, name)
    version = place["format"].count()
    if version > FORMAT:
        raise FormatError(
            f"{name}: format {version} is newer than this envpack knows (it reads up to {FORMAT})",
            hint="Update envpack: pip install --upgrade conda-envpack",
        )
    return place


def manifest_from_json(data: bytes) -> Manifest:
    """Reads a manifest; raises FormatError naming the field that is wrong."""
    top = _parse(data, MANIFEST_PATH)
    segments = tuple(
        Segment(segment["id"].text(), _read_frames(segment["frames"])) for segment in top["segments"].items()
    )
    if len({segment.id for segment in segments}) != len(segments):
        raise FormatError(f"{MANIFEST_PATH}.segments: two segments have the same id")
    prefix = top["prefix"]
    return Manifest(
        format=top["format"].count(),
        name=top["name"].text(),
        version=top["version"].text(),
        subdir=top["subdir"].text(),
        created=top["created"].count(),
        writer=top["writer"].text(),
        codec=top["codec"].text(),
        size=top["size"].count(),
        files=top["files"].count(),
        python=top["python"].text(),
        longest_prefix=None if prefix["longest"].value is None else prefix["longest"].count(),
        limited_by=prefix["limited_by"].text(),
        paths_size=top["paths"]["size"].count(),
        paths_sha256=top["paths"]["sha256"].digest(),
        head=_read_frames(top["paths"]["frames"]),
        segments=segments,
        packages=tuple(_read_package(package) for package in top["packages"].items()),
        requires=_read_strings(top["requires"]),
        needs=top.get("needs", _read_needs, Needs()),
        variables=_read_strings(top["variables"]),
        test=_read_list(top["test"]),
        commands=_read_strings(top["commands"]),
        changes=_read_changes(top["changes"]),
    )


def _read_frames(place: _Place) -> tuple[Frame, ...]:
    frames = []
    for item in place.items():
        parts = item.items()
        if len(parts) != 3:
            raise FormatError(f"{item.where}: [stored, size, sha256] expected")
        frames.append(Frame(parts[0].count(), parts[1].count(), parts[2].digest()))
    return tuple(frames)


def _read_strings(place: _Place) -> dict[str, str]:
    return {key: value.text() for key, value in place.pairs().items()}


def _read_list(place: _Place) -> tuple[str, ...]:
    return tuple(item.text() for item in place.items())


def _read_needs(place: _Place) -> Needs:
    try:
        return needs_from_json(place.value)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise FormatError(f"{place.where}: not what an environment needs: {problem}") from None


def _read_changes(place: _Place) -> Changes:
    try:
        return changes_from_json(place.value)
    except ValueError as problem:
        raise FormatError(f"{place.where}: {problem}") from None


def _read_package(place: _Place) -> Package:
    texts = ("build", "subdir", "channel", "url", "sha256", "license", "segment")
    return Package(
        kind=place["kind"].text(),
        name=place["name"].text(),
        version=place["version"].text(),
        size=place.get("size", _Place.count, 0),
        files=place.get("files", _Place.count, 0),
        **{name: place.get(name, _Place.text, "") for name in texts},
    )


def table_from_json(data: bytes) -> PathsTable:
    """Reads a paths table; raises FormatError naming the wrong entry, IntegrityError for an unsafe one."""
    top = _parse(data, PATHS_PATH)
    placeholders = tuple(_bytes(item.text()) for item in top["placeholders"].items())
    if not all(placeholders):
        raise FormatError(f"{PATHS_PATH}.placeholders: an empty placeholder")
    segments: dict[str, tuple[PathRecord, ...]] = {}
    for segment in top["segments"].items():
        id = segment["id"].text()
        if id in segments:
            raise FormatError(f"{segment.where}: a second segment {id!r}")
        segments[id] = tuple(_read_record(record, placeholders) for record in segment["paths"].items())
    return PathsTable(segments)


def _read_record(place: _Place, placeholders: tuple[bytes, ...]) -> PathRecord:
    path, type_ = safe_path(place["path"].text()), place["type"].text()
    if type_ == "file":
        size = place["size"].count()
        relocation = (
            _read_relocation(place["relocation"], placeholders, size) if "relocation" in place.value else None
        )
        return PathRecord(
            path,
            type_,
            mode=_read_mode(place),
            size=size,
            sha256=place["sha256"].digest(),
            offset=place["offset"].count(),
            mtime=place["mtime"].count(),
            relocation=relocation,
        )
    if type_ == "directory":
        return PathRecord(path, type_, mode=_read_mode(place))
    if type_ == "symlink":
        return PathRecord(path, type_, target=place["target"].text())
    if type_ == "hardlink":
        return PathRecord(path, type_, target=safe_path(place["target"].text()))
    raise FormatError(f"{place.where}.type: file, hardlink, symlink or directory expected, found {type_!r}")


def _read_mode(place: _Place) -> int:
    mode = place["mode"].count()
    if mode & ~0o777:
        raise IntegrityError(f"{place.where}.mode: {mode:o} has more than permission bits")
    return mode


def safe_path(path: str) -> str:
    """The path itself when it is relative, normal and inside the prefix; raises IntegrityError otherwise."""
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise IntegrityError(f"unsafe path {path!r} in the bundle")
    return path


def _read_relocation(place: _Place, placeholders: tuple[bytes, ...], size: int) -> Relocation:
    index = place["placeholder"].count()
    if index >= len(placeholders):
        raise FormatError(f"{place.where}.placeholder: there are only {len(placeholders)}")
    none: tuple[int, ...] = ()
    bytecode = place.get("bytecode", lambda p: p.counts(3), none)
    relocation = Relocation(
        placeholders[index],
        text=place.get("text", lambda p: p.counts(1), none),
        padded=place.get("padded", lambda p: p.counts(1), none),
        strings=place.get("strings", lambda p: tuple(item.counts(2) for item in p.items()), ()),
        marshal=place.get("marshal", lambda p: tuple(item.counts(4) for item in p.items()), ()),
        encoded=place.get("encoded", _read_encoded, ()),
        shebang=place.get("shebang", _read_shebang, None),
        bytecode=Bytecode(*bytecode) if bytecode else None,
    )
    _check_fits(relocation, size, place.where)
    return relocation


def _read_shebang(place: _Place) -> Shebang | None:
    lead, rest, form, coding, *others = (*_read_list(place), "", "", "", "")
    if not lead or not rest or any(others):
        raise FormatError(
            f"{place.where}: [lead, rest], [lead, rest, form] or [lead, rest, form, coding] expected"
        )
    if form not in ("", THROUGH_ENV) and form not in forms():
        raise FormatError(f"{place.where}: {form!r} is no form that this envpack knows")
    return Shebang(_bytes(lead), _bytes(rest), form, coding)


def _read_encoded(place: _Place) -> tuple[tuple[str, tuple[int, ...]], ...]:
    for form, item in place.pairs().items():
        if form not in ENCODINGS:
            raise FormatError(f"{item.where}: {form!r} is no form that this envpack knows")
    return tuple((form, item.counts(1)) for form, item in sorted(place.pairs().items()))


def _check_fits(relocation: Relocation, size: int, where: str) -> None:
    """Every replacement lies inside the file and none overlaps another."""
    if any(not 0 < kind < 256 for _, kind, *_ in relocation.marshal):
        raise FormatError(f"{where}.marshal: a type byte is wrong")
    end = 0
    for offset, old, _ in splices(relocation, relocation.placeholder):
        if offset < end or offset + len(old) > size:
            raise IntegrityError(f"{where}: a replacement at {offset} overlaps another or lies outside the file")
        end = offset + len(old)
