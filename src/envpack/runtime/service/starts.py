"""The record of the starts of a deployment's commands: ``.envpack/runs/NAME.json``.

``envpack run`` writes it, and ``envpack metrics`` shows it. It is read as a file that any user may have written:
values that are not valid are left out.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.layout import RUNS_PATH
from envpack.runtime.format.services import COMMAND_NAME
from envpack.runtime.fs.io import READ_FOLDER, READ_UNTRUSTED, open_regular, other_owner
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import give_folder, make_folders
from envpack.runtime.fs.temporary import replace_file

_SUFFIX = ".json"
_MOST_FILES, _MOST_BYTES = 100, 64 << 10


@dataclass(frozen=True)
class Starts:
    """The starts of one command. None: it is not recorded.

    Attributes:
        command: Its name.
        count: How often it was started since the bundle was deployed.
        last: When it was started last, in seconds since 1970.
        ready: The seconds from the last start until it was ready, where that was waited for.
        pid: The process of the last start.
    """

    command: str
    count: int | None = None
    last: float | None = None
    ready: float | None = None
    pid: int | None = None


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
                found.append(_read(folder, name[: -len(_SUFFIX)]))
    except OSError:
        pass
    finally:
        os.close(folder)
    return found


def starts_of(root: Path, command: str) -> Starts:
    """Return what is recorded of one command of the deployment at ``root``."""
    try:
        folder = os.open(root / RUNS_PATH, READ_FOLDER)
    except OSError:
        return Starts(command)
    try:
        return _read(folder, command)
    except (OSError, ValueError):
        return Starts(command)
    finally:
        os.close(folder)


def record_start(root: Path, command: str, pid: int, now: float) -> None:
    """Add a start to the record; do nothing where it can't be written.

    Args:
        root: The deployment.
        command: The name of the command.
        pid: The process that was started.
        now: The time, in seconds since 1970.
    """
    before = starts_of(root, command).count or 0
    _write(root, Starts(command, before + 1, round(now, 3), None, pid))


def record_ready(root: Path, command: str, seconds: float) -> None:
    """Add to the last start how many seconds it took until the command was ready."""
    _write(root, replace(starts_of(root, command), ready=round(seconds, 3)))


def parse_starts(command: str, document: Any) -> Starts:
    """Return the starts of a command from the value of its JSON; raise ValueError when it is no object. Pure."""
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return Starts(
        command,
        _number(document.get("starts")),
        _seconds(document.get("last_start")),
        _seconds(document.get("ready_seconds")),
        _number(document.get("pid")),
    )


def _read(folder: int, command: str) -> Starts:
    """Return the starts of a command from its file; raise OSError or ValueError when it can't be read."""
    fd = open_regular(f"{command}{_SUFFIX}", READ_UNTRUSTED, dir_fd=folder)
    try:
        data = os.read(fd, _MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MOST_BYTES:
        raise ValueError("too large")
    return parse_starts(command, json_value(data))


def _write(root: Path, starts: Starts) -> None:
    if not COMMAND_NAME.fullmatch(starts.command):
        return
    document = {
        "starts": starts.count,
        "last_start": starts.last,
        "pid": starts.pid,
        "ready_seconds": starts.ready,
    }
    path = root / RUNS_PATH / f"{starts.command}{_SUFFIX}"
    with suppress(OSError, DestinationError):
        owner = other_owner(root)
        if make_folders(path.parent) and owner is not None:
            give_folder(path.parent, owner)
        replace_file(path, json.dumps(document).encode() + b"\n", durable=False, owner=owner)


def _number(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        return value if math.isfinite(value) and value >= 0 else None
    except OverflowError:  # an integer that no float can hold
        return None
