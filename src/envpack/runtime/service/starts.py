"""The record of the starts of named commands: ``.envpack/runs/NAME.json`` in the deployment."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.layout import RUNS_PATH
from envpack.runtime.format.services import COMMAND_NAME
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import make_folders
from envpack.runtime.fs.temporary import replace_file


@dataclass(frozen=True)
class Starts:
    """The starts of a command.

    Attributes:
        starts: Their number since the bundle was deployed.
        last_start: Time of the last one, in seconds since 1970.
        pid: The process of the last one.
        ready_seconds: Seconds until it was ready; None if nobody waited for that.
    """

    starts: int = 0
    last_start: float = 0
    pid: int = 0
    ready_seconds: float | None = None


def read_starts(root: Path, name: str) -> Starts:
    """Return what is recorded of a command; no starts where there is no readable record."""
    try:
        found = json_value(read_file(_path(root, name)))
        ready = found["ready_seconds"]
        return Starts(
            int(found["starts"]),
            float(found["last_start"]),
            int(found["pid"]),
            None if ready is None else float(ready),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Starts()


def record_start(root: Path, name: str, pid: int, now: float) -> None:
    """Add a start to the record; do nothing where it can't be written."""
    before = read_starts(root, name)
    _write(root, name, Starts(before.starts + 1, round(now, 3), pid))


def record_ready(root: Path, name: str, seconds: float) -> None:
    """Add to the last start how many seconds it took until the command was ready."""
    _write(root, name, replace(read_starts(root, name), ready_seconds=round(seconds, 3)))


def _path(root: Path, name: str) -> Path:
    return root / RUNS_PATH / f"{name}.json"


def _write(root: Path, name: str, starts: Starts) -> None:
    if not COMMAND_NAME.fullmatch(name):
        return
    path = _path(root, name)
    try:
        make_folders(path.parent)
        replace_file(path, json.dumps(vars(starts)).encode() + b"\n", durable=False)
    except (OSError, DestinationError):
        return
