"""What a command says of a file, or a folder, that it has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envpack.cli.console import Console


def facts_of(output: Path, console: Console) -> dict[str, Any]:
    """The ``sha256`` and ``file_size`` of what was written, for programs: only what is told as JSON has them.

    Of a folder there is no digest.
    """
    from envpack.release.files import sha256_of

    if not console.json:
        return {}
    if output.is_dir():
        return {"sha256": None, "file_size": sum(path.lstat().st_size for path in output.rglob("*"))}
    return {"sha256": sha256_of(output), "file_size": output.stat().st_size}
