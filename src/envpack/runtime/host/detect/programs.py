"""Programs that are asked about the host, each with a time limit: with a broken driver they may never end."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Mapping, NamedTuple, Sequence

_AFTER_KILL = 1
"""Seconds to wait for the end of a killed program; one that waits for a broken driver does not end."""


class Answer(NamedTuple):
    """The end of a program: its exit status (negative: the signal that ended it), and what it printed."""

    status: int
    output: str


def ask(command: Sequence[str], patience: float, environ: Mapping[str, str] | None = None) -> Answer | None:
    """Run a program without input, and return its answer; None when it gave none in time.

    Args:
        command: The program and its arguments.
        patience: The time limit in seconds.
        environ: Its environment variables; None for those of this process.

    Raises:
        OSError: The program can't be run.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=None if environ is None else dict(environ),
    )
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_AFTER_KILL)
        return None
    except BaseException:
        process.kill()
        raise
    return Answer(process.returncode, output.decode("utf-8", "replace"))
