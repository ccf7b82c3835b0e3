"""The C compiler of the tests: that of the machine, or the one in the package ``ziglang``."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from channel_maker.compiler import cache_variables, find_compiler

CACHE = Path(__file__).resolve().parent.parent / "build" / "compilers"


def compiler() -> tuple[str, ...]:
    """Return the command that compiles C; raise FileNotFoundError if there is none."""
    found = find_compiler()
    if found is None:
        raise FileNotFoundError("there is no C compiler: install gcc, or the Python package ziglang")
    return found


def variables() -> dict[str, str]:
    """Return the variables for it: CC, so that every build uses the same compiler, and zig's cache."""
    return {**os.environ, **cache_variables(CACHE), "CC": shlex.join(compiler())}


def compile_c(*arguments: str | Path) -> None:
    """Compiles; what the compiler says is shown where it fails."""
    subprocess.run([*compiler(), *arguments], check=True, env=variables())
