"""Files in an environment that the command writes itself: the output, when it lies in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from envpack.runtime.fs.temporary import is_temporary

BESIDE = ("", ".sha256", ".minisig")
"""Ends of the names of a bundle and of the files that belong to it."""


def without_output(keep: Callable[[str], bool] | None, prefix: Path, output: Path) -> Callable[[str], bool] | None:
    """Return ``keep`` without the output and temporary files beside it, where it lies in the environment.

    Args:
        keep: Returns whether a path of the environment is packed; None packs all paths.
        prefix: The environment's folder.
        output: The file or folder that is written.
    """
    root, folder = os.path.realpath(prefix), os.path.realpath(output.parent)
    if folder != root and not folder.startswith(f"{root.rstrip('/')}/"):
        return keep
    start = os.path.relpath(folder, root)
    start = "" if start == "." else f"{start}/"
    outputs = tuple(f"{start}{output.name}{end}/" for end in BESIDE)

    def keep_others(path: str) -> bool:
        if path.startswith(start) and not path.endswith("/"):
            name = path[len(start) :].partition("/")[0]
            if is_temporary(name) or f"{path}/".startswith(outputs):
                return False
        return keep is None or keep(path)

    return keep_others
