"""Runs envpack's commands as a stranger's file is to be met: each job in a process of its own, on a terminal, with
little memory and a watchdog.

A helper imports envpack once and forks for each job, so that hundreds take seconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY = 3 << 30
"""Bytes of address space, threads' stacks and shared libraries included."""
SECONDS = 100
RUNTIME = "runtime"


@dataclass(frozen=True)
class Done:
    """The result of a job: the exit code of each command, the output on the terminal, and its time and memory."""

    codes: list[int]
    said: list[str]
    seconds: float
    memory: int


class Sandbox:
    """The helper. ``home``: a folder for HOME, where envpack may keep its lists."""

    def __init__(self, home: Path) -> None:
        keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
        environ = {**keep, "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )

    def run(
        self,
        folder: Path,
        *commands: Sequence[str],
        memory: int = MEMORY,
        umask: int = 0o022,
        parallel: bool = False,
    ) -> Done:
        """Run commands in ``folder``, one after the other; RUNTIME as the first word runs the runtime's own.
        ``parallel``: files are written by other processes, however few there are."""
        assert self._process.stdin is not None and self._process.stdout is not None
        job: dict[str, Any] = {
            "folder": str(folder),
            "commands": [list(command) for command in commands],
            "memory": memory,
            "umask": umask,
            "parallel": parallel,
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Done(**answer)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _serve() -> None:
    import envpack.bundle.codecs
    import envpack.cli.app
    import envpack.runtime.__main__
    import envpack.runtime.commands.deploy  # noqa: F401
    from envpack.cli.app import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"envpack.cli.commands.{name}")
    for name in ("envpack.config", "envpack.interop.detect", "envpack.runtime.commands.verify", "rich.cells"):
        importlib.import_module(name)  # what commands import only when they need it
    gc.freeze()  # a collection in a child would copy all that the helper has
    for line in sys.stdin:
        print(json.dumps(_job(json.loads(line))), flush=True)


def _job(job: dict[str, Any]) -> dict[str, Any]:
    results, marks = os.pipe()
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.close(results)
        _child(job, marks)
    os.close(marks)
    said = _watched(child, terminal, started)
    _, _, usage = os.wait4(child, 0)
    with os.fdopen(results) as lines:
        codes = [int(line) for line in lines.read().split()]
    os.close(terminal)
    return {
        "codes": codes,
        "said": said.decode("utf-8", "replace").split("\x00MARK\x00")[: len(job["commands"])],
        "seconds": time.monotonic() - started,
        "memory": usage.ru_maxrss << 10,
    }


def _watched(child: int, terminal: int, started: float) -> bytes:
    said = b""
    while True:
        left = started + SECONDS - time.monotonic()
        ready, _, _ = select.select([terminal], [], [], max(left, 0))
        if not ready:
            os.kill(child, signal.SIGKILL)
            return said + b"\nWATCHDOG\n"
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the terminal's end
            return said
        if not data:
            return said
        said += data


def _child(job: dict[str, Any], marks: int) -> None:
    code = 99
    try:
        import envpack.runtime.reader.partition
        from envpack.cli.app import main
        from envpack.cli.console import Console
        from envpack.runtime.__main__ import main as runtime

        for stream, fd in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            setattr(sys, stream, open(fd, "r" if fd == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        os.chdir(job["folder"])
        os.umask(job["umask"])
        if job["parallel"]:
            envpack.runtime.reader.partition.SIZE = 1
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for words in job["commands"]:
            result = runtime(words[1:]) if words[0] == RUNTIME else main(words, Console.of_process())
            os.write(marks, b"%d\n" % result)
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(2, b"\x00MARK\x00")
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
