"""Processors and memory that this process may use, by its CPU affinity and the limits of its cgroup."""

from __future__ import annotations

import os
import re
from pathlib import Path


def processors() -> int:
    """Return the number of processors that this process may run on, by its CPU affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_text(path: Path) -> str:
    """Return a file's text, decoded as UTF-8; "" when it can't be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def memory(root: Path) -> tuple[int, bool]:
    """Return how much memory this process may use.

    Args:
        root: the folder that holds ``proc`` and ``sys``: ``/``.

    Returns:
        The memory in bytes, 0 when it is unknown, and whether a cgroup limits it to less than the machine has.
    """
    match = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else 0
    limits = [_whole(text) for text in _cgroup(root, "memory.max", "memory", "memory.limit_in_bytes")]
    least = min((limit for limit in limits if limit), default=0)
    return (least, True) if least and (not total or least < total) else (total, False)


def cpus(root: Path) -> tuple[int, bool]:
    """Return how many cores this process may use, by its CPU affinity and the quota of its cgroup.

    Args:
        root: the folder that holds ``proc`` and ``sys``: ``/``.

    Returns:
        The number of cores, at least 1, and whether a cgroup limits it to less than the affinity allows.
    """
    allowed = processors()
    shares = []
    for text in _cgroup(root, "cpu.max", "cpu", ""):
        quota, _, period = text.partition(" ")
        shares.append(_share(quota, period))
    quotas, periods = (_cgroup(root, "", "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    shares += [_share(quota, period) for quota, period in zip(quotas, periods)]
    least = min((share for share in shares if share), default=0.0)
    return (max(1, int(least)), True) if least and least < allowed else (allowed, False)


def _share(quota: str, period: str) -> float:
    return _whole(quota) / (_whole(period) or 100_000)


def _whole(text: str) -> int:
    """Return the number in a cgroup file; 0 for "max", "-1" and the like, which mean no limit."""
    return int(text) if text.strip().isdigit() else 0


def _cgroup(root: Path, second: str, controller: str, first: str) -> list[str]:
    """Return the texts of a limit's file in this process's cgroup and in all above it.

    In a container the path in /proc/self/cgroup may be the host's, while the container's own cgroup is the root of
    the mount.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
        second: the name of the file in cgroup v2; "": do not look there.
        controller: the cgroup v1 controller that has the limit.
        first: the name of the file in cgroup v1; "": do not look there.
    """
    texts = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names and second:
            mount, name = root / "sys/fs/cgroup", second
        elif controller in names.split(",") and first:
            mount, name = root / "sys/fs/cgroup" / controller, first
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            text = read_text(mount.joinpath(*parts[:depth], name)).strip()
            if text:
                texts.append(text)
    return texts
