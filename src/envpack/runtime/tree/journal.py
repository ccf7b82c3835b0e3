"""The journal of a prefix rewrite: it exists while the files of a tree may contain several prefixes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Sequence

from envpack.runtime.format.layout import JOURNAL_PATH
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import exists


class Journal:
    """The journal in the tree at ``root``."""

    def __init__(self, root: Path) -> None:
        self._path = root / JOURNAL_PATH

    def exists(self) -> bool:
        return exists(self._path)

    def read(self) -> tuple[bool, list[str]]:
        """Return whether a rewrite was ever completed in the tree, and all prefixes that a file may contain.

        It is ``(False, [])`` without a valid journal.
        """
        try:
            document = json_value(read_file(self._path))
            return bool(document["settled"]), [str(prefix) for prefix in document["prefixes"]]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return False, []

    def write(self, was_completed: bool, prefixes: Sequence[str]) -> None:
        """Write what `read` returns, by a durable atomic replace.

        Raises:
            OSError: the file can't be written.
        """
        replace_own_file(self._path, json.dumps({"settled": was_completed, "prefixes": prefixes}).encode())

    def remove(self) -> None:
        """Remove the file; errors are ignored, as it has no meaning once the prefix is installed."""
        with suppress(OSError):
            os.unlink(self._path)
