"""Start and end of an envpack process: tuned for a process that frees its memory by exiting."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn, Sequence

from envpack.runtime.errors import UsageError

_OBJECTS = 100_000
"""New objects before Python's collector searches for cycles.

With Python's default of 700, that search takes a tenth of a command's time.
"""


def begin() -> None:
    """Set up the garbage collector; call it at the start of a command."""
    gc.set_threshold(_OBJECTS)


def require_arguments(arguments: Sequence[str]) -> None:
    """Raise UsageError when an argument is empty: as a path it would be the current directory."""
    for number, argument in enumerate(arguments, 1):
        if not argument:
            raise UsageError(
                f"argument {number} is empty", hint='A variable in the command is probably not set, as in "$DEST".'
            )


def leave(code: int) -> NoReturn:
    """Flush the output streams and end the process with exit status ``code``, without Python's shutdown.

    Python's shutdown frees every object one by one. Threads of a library may still hold Python objects then and
    abort, as rattler's do (the same bindings: https://github.com/cocoindex-io/cocoindex/issues/1685).
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
