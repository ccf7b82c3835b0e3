"""The place of a bundle, as somebody gives it, becomes an `Access`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from envpack.runtime.access import Access, FileAccess
from envpack.runtime.errors import FormatError

_HINT = "Give the path of a bundle."


def open_access(where: Path | str) -> Access:
    """Opens the file at a path. Raises FormatError when it is none, or can't be read."""
    path = Path(where)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint=_HINT) from None
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        os.close(fd)
        what = "a directory" if stat.S_ISDIR(kind) else "no file"
        raise FormatError(f"{path} is {what}, not a bundle", hint=_HINT)
    return FileAccess(fd, str(path), os.path.abspath(path))
