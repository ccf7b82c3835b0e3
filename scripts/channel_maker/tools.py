"""Running other programs, and stopping them when the run is over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from channel_maker.errors import ChannelError


@dataclass(frozen=True)
class Finished:
    """The exit status and output of a program."""

    status: int
    stdout: str
    stderr: str


_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        cwd: The folder to run it in.
        environment: Variables in addition to those of this process.

    Raises:
        ChannelError: It can't be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # a group of its own: pip runs a second pip, and both have to end
            start_new_session=True,
        )
    except OSError as error:
        raise ChannelError(f"{command[0]} can't be run: {error.strerror or error}.") from None
    with _lock:
        _running.add(process)
    try:
        with process:
            stdout, stderr = process.communicate()
    finally:
        with _lock:
            _running.discard(process)
    return Finished(process.returncode, stdout, stderr)


def stop_all() -> None:
    """End what :func:`run` still waits for in other threads."""
    with _lock:
        for process in _running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def find_tool(name: str) -> Path | None:
    """Return the program ``name`` of the running environment, or else the first on PATH."""
    beside = Path(sys.prefix, "bin", name)
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def need_tool(name: str, hint: str) -> Path:
    """Return the path of a program; raise :class:`ChannelError` with ``hint`` when it is not found."""
    found = find_tool(name)
    if found is None:
        raise ChannelError(f"The program {name} was not found.", hint=hint)
    return found
