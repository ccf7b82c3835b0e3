"""Environments installed for real: by rattler, from channels of this machine, and by uv."""

from __future__ import annotations

import _imp
import asyncio
import json
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import CodeType

import rattler

from envpack.runtime.host.detect.machine import host_subdir

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/python{MINOR}/site-packages"
CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
NO_BYTECODE = {**CLEAN, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": tempfile.gettempdir()}
"""Variables for programs that must not change their environment; conda-pack writes to TMPDIR."""


def run(*command: object, cwd: Path | None = None, **environment: object) -> str:
    """Return the output of a program that must not fail, with `NO_BYTECODE` and ``environment``."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**NO_BYTECODE, **{name: str(value) for name, value in environment.items()}},
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def conda_install(
    channels: Sequence[str], prefix: Path, packages: Sequence[str], cache: Path, *, only: Collection[str] = ()
) -> None:
    """Install ``packages`` and their dependencies into ``prefix``; of these only ``only``, if any are given."""

    async def run() -> None:
        records = await rattler.solve(
            [rattler.Channel(channel) for channel in channels],
            list(packages),
            platforms=[host_subdir(), "noarch"],  # type: ignore[list-item]
            virtual_packages=rattler.VirtualPackage.detect(),
        )
        records = [record for record in records if not only or record.name.normalized in only]
        await rattler.install(records, prefix, cache_dir=cache, show_progress=False)

    asyncio.run(run())


DISPENSABLE = (
    "bin/2to3*",
    "include",
    "lib/lib*krb5*",
    *(f"lib/lib{name}.so*" for name in ("crypto", "sqlite3", "ssl")),
    *(f"lib/python{MINOR}/{name}" for name in ("asyncio", "config-*", "ctypes", "curses", "lib2to3")),
    *(f"lib/python{MINOR}/{name}" for name in ("multiprocessing", "pydoc_data", "tkinter", "unittest", "xml")),
    f"lib/python{MINOR}/encodings/**/[cim]*",
    *(f"lib/python{MINOR}/lib-dynload/{name}*" for name in ("_codecs_", "_hashlib", "_sqlite3", "_ssl", "nis")),
)
"""What most programs do without: half of Python. uv asks distutils of Python 3.10."""


def lighten(prefix: Path) -> Path:
    """Take what is `DISPENSABLE` out of an environment's Python, and out of the record of its package."""
    (record,) = (prefix / "conda-meta").glob(f"python-{MINOR}.*.json")
    document = json.loads(record.read_bytes())
    found = [path for glob in DISPENSABLE for path in prefix.glob(glob)]
    for path in found:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    gone = tuple(f"{path.relative_to(prefix)}/" for path in found)

    def stays(path: str) -> bool:
        return not f"{path}/".startswith(gone)

    document["files"] = [path for path in document["files"] if stays(path)]
    items = document["paths_data"]["paths"]
    document["paths_data"]["paths"] = [item for item in items if stays(item["_path"])]
    record.write_text(json.dumps(document, indent=2))
    return prefix


def uv_install(prefix: Path, *arguments: str) -> None:
    """Install packages of pip's index into an environment."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--break-system-packages"]
    subprocess.run([*command, "--python", str(prefix / "bin/python"), *arguments], check=True, text=True)


def path_of_length(folder: Path, length: int) -> Path:
    """Return a path of ``length`` bytes below ``folder``."""
    spare = length - len(os.fsencode(folder)) - 1
    parts = ["p" * 100] * (spare // 101)
    return folder.joinpath(*parts, "q" * (spare - 101 * len(parts)))


def imported_code(data: bytes, source: str) -> CodeType:
    """Return the code of a pyc as Python has it after importing ``source``."""
    code: CodeType = marshal.loads(data[16:])
    _imp._fix_co_filename(code, source)
    return code
