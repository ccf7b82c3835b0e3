"""The record of a deployment, ``.envpack/deployment.json``: written last, so that a tree that has it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping

from envpack.runtime.format.layout import DEPLOYMENT_PATH, MANIFEST_PATH
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

SCHEMA = "envpack.deployment/1"

UNRECORDED = 0
"""The generation of a tree that plain tar unpacked: it has a manifest, but no record."""


@dataclass(frozen=True)
class Generation:
    """One generation of a deployment: what was deployed, from which bundle, and when.

    Args:
        generation: Its number, from 1; `UNRECORDED` for a tree that plain tar unpacked.
        name: The name of the environment.
        version: The version of the environment.
        bundle: The bundle that it came from; "" when that is not known.
        manifest_sha256: The digest of its manifest.
        deployed: When it was deployed, in seconds since 1970.
        tested: True when its tests passed or it has none, False when they were not to be run, None when they did
            not finish.
    """

    generation: int
    name: str
    version: str
    bundle: str
    manifest_sha256: str
    deployed: int
    tested: bool | None

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Generation.__dataclass_fields__}


@dataclass(frozen=True)
class Record(Generation):
    """The record of a tree: its own generation, and those before it.

    Args:
        by: The program that deployed it, with its version; "" when that is not known.
        size: Bytes of its files.
        files: The number of its files.
        destination: Its destination after the last command that changed it.
        came_from: The destination that it was moved from, or "".
        replaced: The generation that it replaced; None when it replaced none.
        store: The store that its files are shared with, or "".
        check: How the host was checked.
        history: The generations before it, the oldest first.
    """

    by: str = ""
    size: int = 0
    files: int = 0
    destination: str = ""
    came_from: str = ""
    replaced: int | None = None
    store: str = ""
    check: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Generation, ...] = ()

    @property
    def summary(self) -> Generation:
        """The part that is noted in the history of later generations."""
        return Generation(*(getattr(self, name) for name in Generation.__dataclass_fields__))


def record_bytes(record: Record) -> bytes:
    """Return the JSON of a record."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        **record.as_dict(),
        "by": record.by,
        "size": record.size,
        "files": record.files,
        "destination": record.destination,
        "history": [item.as_dict() for item in record.history],
    }
    if record.replaced is not None:
        document["replaced"] = record.replaced
    if record.came_from:
        document["came_from"] = record.came_from
    if record.store:
        document["store"] = record.store
    if record.check:
        document["check"] = dict(record.check)
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def write_record(root: Path, record: Record) -> None:
    """Write a record into the tree at ``root``, with an atomic replace. Raises OSError."""
    replace_own_file(root / DEPLOYMENT_PATH, record_bytes(record))


def update_record(root: Path, record: Record, **changes: Any) -> Record:
    """Write a record with ``changes`` into the tree at ``root``, and return it. Raises OSError."""
    changed = replace(record, **changes)
    write_record(root, changed)
    return changed


def has_record(root: Path) -> bool:
    """Return whether the tree at ``root`` has a record, readable or not; raise OSError when that is not known."""
    try:
        (root / DEPLOYMENT_PATH).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_record(root: Path) -> Record | None:
    """Return the record of the tree at ``root``, or None when it is no deployment (no record and no manifest).

    For a tree that plain tar unpacked, or with a damaged record, a record is made from its manifest, with the
    generation `UNRECORDED`. Raises OSError when a record or manifest exists and can't be read.
    """
    manifest, data = _content(root / MANIFEST_PATH), _content(root / DEPLOYMENT_PATH)
    if manifest is None and data is None:
        return None
    unpacked = int((root / (DEPLOYMENT_PATH if manifest is None else MANIFEST_PATH)).stat().st_ctime)
    defaults = _of_manifest(manifest or b"", unpacked, str(root))
    if data is None:
        return defaults
    try:
        return _parsed(json_value(data), defaults)
    except (ValueError, TypeError, KeyError, AttributeError):
        return defaults


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _of_manifest(data: bytes, unpacked: int, root: str) -> Record:
    try:
        found = json_value(data)
    except ValueError:
        found = {}
    manifest: Mapping[str, Any] = found if isinstance(found, dict) else {}
    return Record(
        generation=UNRECORDED,
        name=_text(manifest.get("name")),
        version=_text(manifest.get("version")),
        bundle="",
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        deployed=unpacked,
        tested=None,
        size=_count(manifest.get("size")),
        files=_count(manifest.get("files")),
        destination=root,
    )


def _parsed(document: Mapping[str, Any], defaults: Record) -> Record:
    replaced = document.get("replaced")
    check = document.get("check")
    return replace(
        defaults,
        **_generation(document, defaults).as_dict(),
        by=_text(document.get("by")),
        size=_count(document.get("size"), defaults.size),
        files=_count(document.get("files"), defaults.files),
        destination=_text(document.get("destination"), defaults.destination),
        came_from=_text(document.get("came_from")),
        replaced=replaced if isinstance(replaced, int) else None,
        store=_text(document.get("store")),
        check=check if isinstance(check, dict) else {},
        history=tuple(_generation(item, defaults) for item in document.get("history", ())),
    )


def _generation(document: Mapping[str, Any], defaults: Record) -> Generation:
    tested = document.get("tested")
    return Generation(
        generation=_count(document.get("generation", 1)),  # old records have no generation
        name=_text(document.get("name"), defaults.name),
        version=_text(document.get("version"), defaults.version),
        bundle=_text(document.get("bundle")),
        manifest_sha256=_text(document.get("manifest_sha256")),
        deployed=_count(document.get("deployed"), defaults.deployed),
        tested=tested if isinstance(tested, bool) else None,
    )


def _text(value: Any, default: str = "") -> str:
    return value if isinstance(value, str) else default


def _count(value: Any, default: int = 0) -> int:
    return value if type(value) is int and value >= 0 else default
