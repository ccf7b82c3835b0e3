"""Kill a command of envpack at each of its system calls that change files, and run it again each time.

A program of its own: it forks for each attempt, which a process with threads must not do.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from envpack.__main__ import main
from envpack.cli import app
from envpack.cli.console import Console

CALLS = ("open", "write", "rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "link")
KILLED = 77


def killed_at(number: int) -> None:
    """Make this process end at the call with this number, before it is done."""
    left = number

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os._exit(KILLED)
            left -= 1
            return call(*arguments, **options)

        return counted

    for name in CALLS:
        setattr(os, name, ending(getattr(os, name)))


def run(words: list[str], number: int | None = None) -> int:
    """Run a command in a new process and return its exit status."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        if number is not None:
            killed_at(number)
        sys.argv = ["envpack", *words]
        try:
            main()
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def attempts(words: list[str], place: Path, last: str) -> int:
    """Return the number of calls at which the command was killed.

    Args:
        words: The command, which writes to ``place``.
        place: A folder, which is removed before each attempt.
        last: The name of the file that must not be there unless all others are complete.
    """
    with redirect_stdout(sys.stderr):  # in this process, so that every child has its modules
        if app.main(words, Console.of_process()) != 0:
            raise SystemExit("the command fails")
    whole = contents(place)
    number = 0
    while True:
        shutil.rmtree(place)
        code = run(words, number)
        left = contents(place)
        if last in left:
            others = {name: data for name, data in left.items() if name in whole and "-latest-" not in name}
            expected = {name: data for name, data in whole.items() if "-latest-" not in name}
            assert others == expected, f"killed at call {number}: {sorted(left)}"
        if code == 0:
            return number
        assert code == KILLED, f"killed at call {number}: status {code}"
        assert run(words) == 0, f"again after call {number}"
        assert contents(place) == whole, f"again after call {number}: {sorted(contents(place))}"
        number += 1


if __name__ == "__main__":
    place, last, *words = sys.argv[1:]
    print(attempts(words, Path(place), last))
