"""Which deployments there are on this host: one small file each, holding nothing but the path.

Everything else is read from the deployment itself, so that nothing here can be wrong but a path that is gone. The
files lie in the user's state folder, root's in one for the whole host.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Mapping

from envpack.runtime.deployment.record import read_record
from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.report import Reporter

FOR_THE_HOST = Path("/var/lib/envpack/deployments")
"""Where root's deployments are registered: state of a program, as the FHS 3.0 has it in 5.8."""


_STALE = 3600
"""Seconds after which a temporary file is one that a killed command has left."""


def registry(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of this user's registry: ``ENVPACK_STATE``, else `FOR_THE_HOST` for root, else in
    ``XDG_STATE_HOME`` as the XDG Base Directory Specification 0.8 has it; None without a home."""
    if environ.get("ENVPACK_STATE"):
        return Path(environ["ENVPACK_STATE"]).absolute()
    if os.geteuid() == 0:
        return FOR_THE_HOST
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(state):
        return Path(state, "envpack", "deployments")
    return Path(home, ".local", "state", "envpack", "deployments") if os.path.isabs(home) else None


def register(destination: Path, reporter: Reporter) -> None:
    """Remembers that there is a deployment; where that can't be written, a warning says so."""
    folder = registry()
    if folder is None:
        return
    entry = _entry(folder, destination)
    data = os.fsencode(destination) + b"\n"
    try:
        if not _holds(entry, data):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(entry, data)
    except OSError as problem:
        reporter.warn(f"'envpack list' won't show {destination}: {folder}: {problem.strerror}")


def unregister(destination: Path) -> None:
    """Forgets a deployment. What can't be removed is of no consequence: it is gone from the list all the same."""
    folder = registry()
    if folder is not None:
        with suppress(OSError):
            os.unlink(_entry(folder, destination))


def registered() -> list[Path]:
    """Every destination that is registered and has a deployment still, root's too; the others are forgotten."""
    found = set()
    folders = {registry()} if os.environ.get("ENVPACK_STATE") else {registry(), FOR_THE_HOST}
    for folder in folders:
        for entry in _entries(folder):
            with suppress(OSError):
                path = Path(os.fsdecode(entry.read_bytes().rstrip(b"\n")))
                if is_deployment(path):
                    found.add(path)
                elif _is_surely_gone(path):
                    os.unlink(entry)
    return sorted(found)


def scan(root: Path) -> Iterator[Path]:
    """Every deployment below ``root``, or ``root`` itself; folders that can't be read are passed over."""
    root = Path(os.path.realpath(root))
    for folder, folders, _ in os.walk(root):
        path = Path(folder)
        if is_deployment(path):
            folders.clear()
            yield path
        else:
            folders[:] = sorted(
                name for name in folders if not (name.startswith(".") and name.endswith(".envpack"))
            )


def is_deployment(path: Path) -> bool:
    """Whether there is a deployment, or an environment that plain tar unpacked; False where that can't be told."""
    try:
        return is_folder(path) and read_record(path) is not None
    except OSError:
        return False


def _is_surely_gone(path: Path) -> bool:
    try:
        return not is_folder(path) or read_record(path) is None
    except OSError:
        return False


def _entries(folder: Path | None) -> list[Path]:
    try:
        found = sorted(folder.iterdir()) if folder else []
    except OSError:
        return []
    for path in found:
        with suppress(OSError):
            if path.name.startswith(".") and path.lstat().st_mtime < time.time() - _STALE:
                path.unlink()
    return [path for path in found if not path.name.startswith(".")]


def _entry(folder: Path, destination: Path) -> Path:
    return folder / hashlib.sha256(os.fsencode(destination)).hexdigest()


def _holds(entry: Path, data: bytes) -> bool:
    try:
        return entry.read_bytes() == data
    except FileNotFoundError:
        return False
