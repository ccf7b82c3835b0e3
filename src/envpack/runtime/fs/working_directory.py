"""The current working directory of this process: the name that the shell has for it, and what lies in it."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.runtime.errors import DestinationError


def absolute(path: Path) -> Path:
    """Return a path as given, but absolute and without ``..``; symbolic links in it are not resolved.

    A relative path is joined to the name that the shell has for the current directory, ``PWD`` (POSIX, 2.5.3), if
    that leads there.

    Raises:
        DestinationError: the path is relative, and the current directory was removed.
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
    try:
        return Path(os.getcwd())
    except OSError:
        raise DestinationError(
            "the current directory no longer exists",
            hint="Change to a directory that exists, or give absolute paths.",
        ) from None


def is_current(folder: Path) -> bool:
    """Return whether the current directory is ``folder``, a path without links, or below it."""
    try:
        here = Path(os.getcwd())
    except OSError:
        return False
    return here == folder or folder in here.parents
