"""Thread pools that run with low priority, and the number of threads that this process should use."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from envpack.runtime.parallel.resources import cpus

_NICE = 10
"""Niceness of the threads: the default increment of nice(1)."""


def processors() -> int:
    """Return the number of processors that this process may use, by its CPU affinity and its cgroup's quota."""
    return cpus(Path("/"))[0]


def pool(jobs: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of ``jobs`` threads with low priority, where threads have their own priority (Linux).

    ``name`` is the prefix of the threads' names.
    """
    return ThreadPoolExecutor(jobs, thread_name_prefix=name, initializer=give_way)


def give_way() -> None:
    """Lower the priority of this thread, and of those that it starts later; ignore errors."""
    if hasattr(threading, "get_native_id") and hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        with suppress(OSError):  # low priority is a courtesy to other programs, not a need
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
