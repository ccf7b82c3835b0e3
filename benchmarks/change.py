"""One pip package of an environment changed, as an upgrade of it would; and back."""

from __future__ import annotations

import csv
import os
from pathlib import Path

FEW = 1_000_000
"""Bytes: the largest package below it is changed."""


class Change:
    """Changes the same package each time, nothing else of the environment; a context manager that undoes it."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._originals: dict[Path, tuple[bytes, os.stat_result]] = {}
        self._times = 0

    def __enter__(self) -> Change:
        return self

    def __exit__(self, *_: object) -> None:
        for path, (data, status) in self._originals.items():
            _replace(path, data, status, (status.st_atime_ns, status.st_mtime_ns))

    def make(self) -> None:
        """Replace every file of the package, as reinstalling does, and change the content of one module."""
        if not self._originals:
            self._originals = {path: (path.read_bytes(), path.stat()) for path in _files_to_change(self._prefix)}
        self._times += 1
        modules = (path for path in self._originals if path.suffix == ".py")
        changed = max(modules, key=lambda path: len(self._originals[path][0]))
        for path, (data, status) in self._originals.items():
            _replace(path, data + f"# changed {self._times} times\n".encode() * (path == changed), status)


def _files_to_change(prefix: Path) -> list[Path]:
    """Return files of the largest distribution with a module and less than FEW bytes, or else of the smallest."""
    candidates = []
    for record in sorted(prefix.glob("lib/python*/site-packages/*.dist-info/RECORD")):
        with record.open(newline="") as lines:
            listed = [Path(os.path.normpath(record.parent.parent / row[0])) for row in csv.reader(lines)]
        files = [path for path in listed if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_size for path in files)
        if any(path.suffix == ".py" for path in files):
            candidates.append((size, files))
    if not candidates:
        raise RuntimeError(f"{prefix} has no pip package that could be changed")
    few = [candidate for candidate in candidates if candidate[0] < FEW]
    return max(few)[1] if few else min(candidates)[1]


def _replace(path: Path, data: bytes, status: os.stat_result, times: tuple[int, int] | None = None) -> None:
    """Replace a file by a new one: it may have other hard links, in the cache of an installer."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.chmod(status.st_mode & 0o7777)
    if times is not None:
        os.utime(new, ns=times)
    new.replace(path)
