"""Small wheels for tests, correct down to their RECORD."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_wheel(
    folder: Path,
    files: Mapping[str, str],
    *,
    tag: str = "py3-none-any",
    metadata: str = "",
    entry_points: str = "",
    name: str = "demo",
    record: str | None = None,
) -> Path:
    """Write version 1.0 of ``name`` as a build tool would; ``record`` replaces its RECORD."""
    info = f"{name}-1.0.dist-info"
    pure = "true" if tag.endswith("-none-any") else "false"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
        f"{info}/REQUESTED": "",
        f"{info}/INSTALLER": "pip\n",
    }
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points
    rows = []
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}\n")
    contents[f"{info}/RECORD"] = record if record is not None else "".join(rows) + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, text in contents.items():
            archive.writestr(member, text)
    return wheel
