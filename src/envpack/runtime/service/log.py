"""Log files of commands, with a name of their own for each start."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from envpack.runtime.errors import DestinationError, StartError
from envpack.runtime.fs.io import CREATE, open_regular
from envpack.runtime.fs.paths import make_folders

LAST_LINES = 20
"""Lines of a log that are shown when its program ended too early."""

_TAIL = 64 << 10
"""Bytes at the end of a log in which they are looked for."""


def open_log(folder: Path, name: str) -> tuple[Path, int]:
    """Create a log file such as ``logs/serve-20261127-142301.log``, and its folder if it is missing.

    Args:
        folder: The folder, relative to the working directory.
        name: The name of the command.

    Returns:
        The path, and a descriptor to write to that programs do not inherit.

    Raises:
        StartError: The folder or the file can't be made, or the folder is a link of another user.
    """
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        make_folders(folder)
        for number in itertools.count():
            path = folder / f"{stem}{f'.{number}' if number else ''}.log"
            try:
                return path, os.open(path, CREATE | os.O_APPEND, 0o666)
            except FileExistsError:
                if not os.path.lexists(path):
                    raise
    except (OSError, DestinationError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem.message
        raise StartError(
            f"the log {folder}/{stem}.log can't be written: {reason}",
            hint="Run it in a directory that you can write, or choose one: --log DIR ('--log -': no file).",
        ) from None
    raise AssertionError("never reached")


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a log file."""
    try:
        fd = open_regular(path)
    except OSError:
        return []
    try:
        return last_lines_in(fd)
    finally:
        os.close(fd)


def last_lines_in(fd: int) -> list[str]:
    """Return the last lines of an open file, at whatever offset it is; raise OSError when it can't be read."""
    data = os.pread(fd, _TAIL, max(0, os.fstat(fd).st_size - _TAIL))
    return data.decode("utf-8", "replace").splitlines()[-LAST_LINES:]
