"""As many threads as this process may use, behind whatever else the machine has to do."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from envpack.runtime.parallel.resources import cpus

_NICE = 10
"""What nice(1) adds by default."""


def processors() -> int:
    """How many processors this process may use: those it may run on, and no more than its cgroup's share."""
    return cpus(Path("/"))[0]


def pool(jobs: int, name: str) -> ThreadPoolExecutor:
    """Threads that give way to other programs, where threads have a priority of their own (Linux)."""
    return ThreadPoolExecutor(jobs, thread_name_prefix=name, initializer=give_way)


def give_way() -> None:
    """Lets other programs go before this thread, and those that it starts."""
    if hasattr(threading, "get_native_id") and hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        with suppress(OSError):  # a courtesy
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
