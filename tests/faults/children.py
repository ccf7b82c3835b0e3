"""Commands run in processes of their own, with faults injected into their system calls: see faults.c.

A process is forked off this one, which has loaded everything already and runs with the library preloaded, so a
command takes milliseconds; what it does to the filesystem, it does through the real C library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.compilers import compile_c

SOURCE = Path(__file__).with_name("faults.c")
LIMIT = 120
"""Seconds after which a command is taken to hang."""


def compile_library(folder: Path) -> Path:
    """The library to be preloaded. Raises FileNotFoundError without a C compiler."""
    made = folder / "faults.so"
    compile_c("-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl")
    return made


@dataclass(frozen=True)
class Ended:
    """The end of a command: its exit code (or a signal's number, negative), its output, its system calls."""

    code: int
    said: str
    calls: int


@dataclass(frozen=True)
class Call:
    """A line of the log: a call that changes something, and what it is about."""

    number: int
    name: str
    kind: int
    about: str


def run(
    argv: Sequence[str], roots: Sequence[Path], scratch: Path, variables: Mapping[str, str] | None = None
) -> Ended:
    """Runs a command of the runtime, or ``sh ...``, with these variables besides; FAULTS_* say what happens."""
    state, log, said = scratch / "state", scratch / "log", scratch / "said"
    state.write_bytes(bytes(8))
    log.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(LIMIT)
            os.chdir("/")
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for fd, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
                os.dup2(fd, target)
            os.environ.update(variables or {})
            os.environ.update(FAULTS_ROOTS=":".join(map(str, roots)), FAULTS_STATE=str(state), FAULTS_LOG=str(log))
            if argv[0] == "sh":
                os.execv("/bin/sh", list(argv))
            ctypes.CDLL(None).faults_start()
            code = _command(list(argv))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    count = int.from_bytes(state.read_bytes(), sys.byteorder)
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), count)


def calls(scratch: Path) -> list[Call]:
    """The result of the last command."""
    found = []
    for line in (scratch / "log").read_text().splitlines() if (scratch / "log").exists() else []:
        number, name, kind, about = line.split(" ", 3)
        found.append(Call(int(number), name, int(kind), about))
    return found


def _command(argv: list[str]) -> int:
    from envpack.runtime.__main__ import main
    from envpack.runtime.errors import INTERRUPTED, EnvpackError
    from envpack.runtime.report import PlainReporter, print_error

    if argv[0] not in ("gc", "repair"):
        return main(argv)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)  # as envpack.cli does around these two
    try:
        if argv[0] == "gc":
            from envpack.runtime.store.gc import collect

            collect(Path(argv[1]), reporter=PlainReporter())
        else:
            from envpack.runtime.commands.repair import repair

            repair(Path(argv[1]), Path(argv[2]), reporter=PlainReporter())
    except EnvpackError as error:
        print_error(error)
        return error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def preload() -> None:
    """Loads what commands import when they run, so that every one of them finds it."""
    import envpack.runtime.__main__
    import envpack.runtime.commands.check
    import envpack.runtime.commands.deploy
    import envpack.runtime.commands.move
    import envpack.runtime.commands.remove
    import envpack.runtime.commands.repair
    import envpack.runtime.commands.rollback
    import envpack.runtime.deployment.history
    import envpack.runtime.store.gc
    import envpack.runtime.tree.rewrite_prefix  # noqa: F401
