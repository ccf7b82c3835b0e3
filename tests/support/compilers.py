"""The C compiler of the tests: that of the machine, or the one in the package ``ziglang``."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
from collections.abc import Mapping
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
    command = compiler()
    words = [str(argument) for argument in arguments]
    if "ziglang" not in command:
        subprocess.run([*command, *words], check=True, env=variables())
        return
    # zig's linker writes no DT_RPATH, and no DT_AUXILIARY: those that it writes instead are changed
    of_linker = [option for word in words if word.startswith("-Wl,") for option in word.split(",")[1:]]
    auxiliary = "-f" in of_linker
    words = [word.replace("-Wl,-f,", "-Wl,-soname,") for word in words]
    subprocess.run([*command, *words], check=True, env=variables())
    changes = {DT_RUNPATH: DT_RPATH} if "--disable-new-dtags" in of_linker else {}
    changes |= {DT_SONAME: DT_AUXILIARY} if auxiliary else {}
    if changes:
        change_tags(Path(words[words.index("-o") + 1]), changes)


DT_SONAME, DT_RPATH, DT_RUNPATH, DT_AUXILIARY = 14, 15, 29, 0x7FFFFFFD
_PT_DYNAMIC = 2


def change_tags(file: Path, changes: Mapping[int, int]) -> None:
    """Replace tags in the dynamic section of an ELF file of 64 bits: System V ABI, chapter 5."""
    data = bytearray(file.read_bytes())
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for header in range(headers, headers + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, header)
        for entry in range(offset, offset + length, 16) if kind == _PT_DYNAMIC else ():
            (tag,) = struct.unpack_from("<Q", data, entry)
            struct.pack_into("<Q", data, entry, changes.get(tag, tag))
    file.write_bytes(data)
