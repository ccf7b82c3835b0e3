"""How a process of envpack begins and ends: what it makes lives until then."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

_OBJECTS = 100_000
"""New objects before Python looks for cycles among them; at its own 700 that takes a tenth of a command's time."""


def begin() -> None:
    """For the start of a command."""
    gc.set_threshold(_OBJECTS)


def leave(code: int) -> NoReturn:
    """Ends the process without taking Python down, which frees every object by itself. Threads of a library may
    hold something of Python's then, and abort, as rattler's do (with the same bindings:
    https://github.com/cocoindex-io/cocoindex/issues/1685)."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
