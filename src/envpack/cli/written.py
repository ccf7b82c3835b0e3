"""What a command says of a file, or a folder, that it has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def facts_of(output: Path) -> dict[str, Any]:
    """The ``sha256`` and ``file_size`` of what was written; of a folder there is no digest."""
    from envpack.release.files import sha256_of

    if output.is_dir():
        return {"sha256": None, "file_size": sum(path.lstat().st_size for path in output.rglob("*"))}
    return {"sha256": sha256_of(output), "file_size": output.stat().st_size}
