"""Processors and memory that this process may use: affinity, and its cgroup's limits."""

from __future__ import annotations

import os
import re
from pathlib import Path


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_text(path: Path) -> str:
    """A file's text; "" when it can't be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def memory(root: Path) -> tuple[int, bool]:
    """Bytes of memory this process may use, and whether a cgroup limits it; 0 when unknown."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    total = int(match[1]) * 1024 if match else 0
    limits = [_whole(text) for text in _cgroup(root, "memory.max", "memory", "memory.limit_in_bytes")]
    least = min((limit for limit in limits if limit), default=0)
    return (least, True) if least and (not total or least < total) else (total, False)


def cpus(root: Path) -> tuple[int, bool]:
    """Cores this process may use by affinity and its cgroup's quota, at least 1; whether a cgroup limits it."""
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
    """The number in a cgroup file; 0 for "max", "-1" and the like, which are no limit."""
    return int(text) if text.strip().isdigit() else 0


def _cgroup(root: Path, second: str, controller: str, first: str) -> list[str]:
    """The texts of a limit's file in this cgroup and all above it: ``second`` of cgroup v2, ``first`` of v1.

    Within a container the path in /proc/self/cgroup may be the host's, while the own cgroup is the mount's root.
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
