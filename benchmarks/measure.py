"""Running a program and measuring it; the machine it ran on."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

_LOOK = 0.1
"""Seconds between two looks at the memory of a tree of processes."""


@dataclass(frozen=True)
class Measured:
    """One run: seconds of wall clock and of processors; bytes of memory: ``memory`` the largest of any one process
    (getrusage(2)), ``tree`` the largest sum over all processes, looked at ten times a second, a page that several
    share counted once (Pss in proc_pid_smaps(5)); ``read``: bytes that the program itself read by system calls,
    not those its children did (proc_pid_io(5)); ``load``: of the machine before (one minute's); ``said``: its
    stdout."""

    seconds: float
    user: float
    system: float
    memory: int
    tree: int
    read: int
    load: float
    said: str


def run(
    command: Sequence[str], environ: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,)
) -> Measured:
    """Run a command after a sync, and measure it.

    Args:
        command: The program and its arguments.
        environ: Variables in addition to those of this process.
        accepted: The exit statuses that are no failure.

    Raises:
        RuntimeError: The command failed; with its output.
    """
    os.sync()
    load = os.getloadavg()[0]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
        start_new_session=True,
    )
    tree = _Tree(process.pid)
    try:
        said, complained = _drain(process)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.monotonic() - started
    except BaseException:  # whoever gives up, what runs ends too, and all that it started
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        tree.stop()
    counted = _fields(Path(f"/proc/{process.pid}/io"))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accepted:
        raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}:\n{complained}")
    memory = usage.ru_maxrss * 1024  # kilobytes on Linux, getrusage(2)
    return Measured(
        seconds,
        usage.ru_utime,
        usage.ru_stime,
        memory,
        max(tree.largest, memory),
        counted.get("rchar", 0),
        load,
        said,
    )


def _drain(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return its standard output and error until it closes both; the process is not reaped."""
    assert process.stdout is not None
    assert process.stderr is not None
    stderr, complaints = process.stderr, []
    reader = threading.Thread(target=lambda: complaints.append(stderr.read()))
    reader.start()
    with process.stdout, stderr:
        said = process.stdout.read()
        reader.join()
    return said, complaints[0]


def _fields(path: Path) -> dict[str, int]:
    with contextlib.suppress(OSError):
        lines = (line.split(":") for line in path.read_text().splitlines())
        return {name: int(value) for name, value in lines}
    return {}


class _Tree:
    """Looks at the memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.largest = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK):
            self.largest = max(self.largest, _resident(self._pid))


def _resident(pid: int) -> int:
    """Return the memory of a process and its descendants, in bytes."""
    total = 0
    with contextlib.suppress(OSError, IndexError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total = 1024 * int(rollup.partition("Pss:")[2].split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_resident(int(child)) for child in (task / "children").read_text().split())
    return total


def machine(place: Path) -> dict[str, str]:
    """Describe the machine: processors, memory, the filesystem of ``place``, kernel, and versions of programs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    memory = _first("MemTotal", Path("/proc/meminfo"))
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processors": f"{len(os.sched_getaffinity(0))} x {processor}",
        "memory": f"{memory / 1e6:.1f} GB",
        "filesystem": _filesystem(place),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "envpack": f"{version('conda-envpack')} {_commit()}".strip(),
        "conda-pack": version("conda-pack"),
        "tar": _line("tar", "--version"),
        "zstd": _line("zstd", "--version"),
        "pigz": _line("pigz", "--version"),
        "cp": _line("cp", "--version"),
    }


def _first(name: str, path: Path) -> int:
    """Return the first number behind ``name``, in the units of the file."""
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def _filesystem(place: Path) -> str:
    place = place.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    fitting = [fields for fields in mounts if place.is_relative_to(fields[1])]
    kind = max(fitting, key=lambda fields: len(fields[1]))[2]
    total, _, free = shutil.disk_usage(place)
    return f"{kind}, {total / 1e9:.0f} GB, {free / 1e9:.0f} GB free"


def _line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0].strip(" *")


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def stoppable() -> None:
    """Handle SIGTERM as an exception, so that temporary changes are undone."""

    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
