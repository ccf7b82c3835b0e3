"""Advisories in OSV's format, as tests need them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DAY = "2025-06-01T00:00:00Z"


def advisory(
    id: str,
    name: str = "demo",
    *events: Mapping[str, str],
    versions: Iterable[str] = (),
    modified: str = DAY,
    **fields: Any,
) -> dict[str, Any]:
    """Return a record about one package of PyPI; ``events`` are those of one range."""
    affected: dict[str, Any] = {"package": {"ecosystem": "PyPI", "name": name}}
    if events:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": list(events)}]
    if versions:
        affected["versions"] = list(versions)
    return {"schema_version": "1.7.0", "id": id, "modified": modified, "affected": [affected], **fields}


def rated(severity: str) -> dict[str, Any]:
    """Return the field in which GitHub's advisories state their rating."""
    return {"database_specific": {"severity": severity}}


def write_zip(path: Path, *records: Mapping[str, Any]) -> Path:
    """Write a database as OSV publishes it; return its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return path


def write_folder(folder: Path, *records: Mapping[str, Any]) -> Path:
    """Write a file for each record into a new folder; return its path."""
    folder.mkdir(parents=True)
    for record in records:
        (folder / f"{record['id']}.json").write_text(json.dumps(record))
    return folder
