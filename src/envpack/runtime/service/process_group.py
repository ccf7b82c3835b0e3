"""The end of a process that leads a group of its own, and of those that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

_POLL = 0.05
"""Seconds between two looks at whether a process has ended."""


def end_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process and those that it started: SIGTERM, and SIGKILL after a time in seconds.

    The process itself may have ended before. Processes that have left its group, as daemons do, go on.
    """
    end = time.monotonic() + seconds
    with suppress(ProcessLookupError, PermissionError):  # the latter: all that are left belong to other users
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < end:
            process.poll()
            os.killpg(process.pid, 0)  # an error when none of them is left
            time.sleep(_POLL)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
