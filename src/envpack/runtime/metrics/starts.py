"""The record of the starts of a deployment's commands, ``.envpack/runs/NAME.json``, which ``envpack run`` writes.

It is read as what anybody may have written: whatever is not as it should be is left out.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.format.layout import RUNS_PATH
from envpack.runtime.fs.io import READ_FOLDER, READ_UNTRUSTED, open_regular
from envpack.runtime.fs.json_text import json_value

_SUFFIX = ".json"
_MOST_FILES, _MOST_BYTES = 100, 64 << 10


@dataclass(frozen=True)
class Starts:
    """The starts of one command.

    Attributes:
        command: Its name.
        count: How often it was started; None when that is not recorded.
        last: When it was started last, in seconds since 1970; None when that is not recorded.
        ready: The seconds that it took until it was ready; None when nobody waited for that.
    """

    command: str
    count: int | None
    last: float | None
    ready: float | None


def read_starts(root: Path) -> list[Starts]:
    """Return what is recorded of the commands of the deployment at ``root``, sorted by their names."""
    found: list[Starts] = []
    try:
        folder = os.open(root / RUNS_PATH, READ_FOLDER)
    except OSError:
        return found
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
        for name in names[:_MOST_FILES]:
            with suppress(OSError, ValueError):
                fd = open_regular(name, READ_UNTRUSTED, dir_fd=folder)
                try:
                    data = os.read(fd, _MOST_BYTES + 1)
                finally:
                    os.close(fd)
                if len(data) <= _MOST_BYTES:
                    found.append(parse_starts(name[: -len(_SUFFIX)], json_value(data)))
    except OSError:
        pass
    finally:
        os.close(folder)
    return found


def parse_starts(command: str, document: Any) -> Starts:
    """Return the starts of a command from the value of its JSON; raise ValueError when it is no object. Pure."""
    if not isinstance(document, dict):
        raise ValueError("not an object")
    count = document.get("starts")
    return Starts(
        command,
        count if type(count) is int and count >= 0 else None,
        _seconds(document.get("last_start")),
        _seconds(document.get("ready_seconds")),
    )


def _seconds(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        return value if math.isfinite(value) and value >= 0 else None
    except OverflowError:  # an integer that no float can hold
        return None
