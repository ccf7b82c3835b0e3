"""The C compiler of this machine, for the relocation samples and for tests."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from channel_maker.tools import find_tool

# By itself zig compiles for the processor it runs on, and checks for undefined behaviour. Its linker merges the
# ends of strings at -Os, as GNU ld does at -O1.
_ZIG = ("-m", "ziglang", "cc", "-mcpu=baseline", "-fno-sanitize=undefined")
_ZIG_GLIBC = "2.28"


def find_compiler() -> tuple[str, ...] | None:
    """Return the command of the C compiler: ``$CC``, gcc or cc, else zig's if ``ziglang`` is installed."""
    words = shlex.split(os.environ.get("CC", ""))
    if words and (found := shutil.which(words[0])):
        return (found, *words[1:])
    for name in ("gcc", "cc"):
        if program := find_tool(name):
            return (str(program),)
    if find_spec("ziglang") is None:
        return None
    machine = os.uname().machine
    return (sys.executable, *_ZIG, "-target", f"{machine}-linux-gnu.{_ZIG_GLIBC}")


def cache_variables(folder: Path) -> Mapping[str, str]:
    """Return the variables that put zig's cache below ``folder``, unless they are set already."""
    names = {"ZIG_GLOBAL_CACHE_DIR": "zig", "ZIG_LOCAL_CACHE_DIR": "zig-local"}
    return {name: str(folder / place) for name, place in names.items() if name not in os.environ}
