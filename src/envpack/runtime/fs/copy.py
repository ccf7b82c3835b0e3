"""Copies of whole trees."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_tree(source: Path, target: Path) -> None:
    """Copy a whole tree: symbolic links as links, hard links among its files as hard links, with times and modes.

    Raises:
        OSError: A file can't be read or written.
    """
    seen: dict[int, str] = {}

    def copy(folder: str, to: str) -> None:
        os.makedirs(to, exist_ok=True)
        with os.scandir(folder) as entries:
            for entry in entries:
                path = os.path.join(to, entry.name)
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    copy(entry.path, path)
                elif status.st_ino in seen:
                    os.link(seen[status.st_ino], path, follow_symlinks=False)
                else:
                    shutil.copy2(entry.path, path, follow_symlinks=False)
                    if status.st_nlink > 1:
                        seen[status.st_ino] = path
        shutil.copystat(folder, to)

    copy(str(source), str(target))
