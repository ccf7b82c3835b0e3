"""The current working directory of this process: the name that the shell has for it, and what lies in it."""

from __future__ import annotations

import os
from pathlib import Path


def absolute(path: Path) -> Path:
    """Return a path as given, but absolute and without ``..``; symbolic links in it are not resolved.

    A relative path is joined to the name that the shell has for the current directory, ``PWD`` (POSIX, 2.5.3), if
    that leads there.

    Raises:
        OSError: the path is relative, and the current directory was removed.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_absolute():
        path = _current() / path
    return Path(os.path.abspath(path))


def _current() -> Path:
    name = os.environ.get("PWD", "")
    try:
        if os.path.isabs(name) and os.path.samefile(name, "."):
            return Path(name)
    except OSError:
        pass
    return Path(os.getcwd())


def is_current(folder: Path) -> bool:
    """Return whether the current directory is ``folder``, a path without links, or below it."""
    try:
        here = Path(os.getcwd())
    except OSError:
        return False
    return here == folder or folder in here.parents
