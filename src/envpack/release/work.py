"""Private folders to build in, gone when the work is done, however it ends."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.lock import locked


def work_root(environ: Mapping[str, str]) -> Path:
    """Where work folders are made: ``$ENVPACK_WORK``, else ``envpack/work`` in the user's cache folder.

    The cache folder is beside rattler's and uv's own caches, so that packages can be hard-linked and not copied.
    """
    if environ.get("ENVPACK_WORK"):
        return Path(environ["ENVPACK_WORK"]).expanduser()
    # https://specifications.freedesktop.org/basedir-spec/latest/
    cache = environ.get("XDG_CACHE_HOME") or ""
    base = Path(cache) if cache.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "envpack" / "work"


@contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """A new folder under ``root``, removed at the end. What a killed process left there is removed first.

    Raises DestinationError when it can't be made.
    """
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / ".lock", wait=True):  # else a folder could be swept before it has its lock
                _sweep(root)
                folder = Path(tempfile.mkdtemp(dir=root))
                stack.callback(_remove, folder)
                stack.enter_context(locked(folder / ".lock", wait=False))
        except OSError as problem:
            raise DestinationError(
                f"can't make a work folder in {root}: {problem.strerror}",
                hint="Name another with --work-dir or ENVPACK_WORK.",
            ) from None
        yield folder


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink() and (folder / ".lock").is_file():
            try:
                with locked(folder / ".lock", wait=False):
                    _remove(folder)
            except DestinationError:
                continue  # somebody is at work in it


def _remove(folder: Path) -> None:
    """Removes a tree, also where a package made a folder read-only."""

    def again(function: Callable[[str], Any], path: str, _: Any) -> None:
        parent = os.path.dirname(path)  # noqa: PTH120
        os.chmod(parent, os.stat(parent).st_mode | stat.S_IRWXU)  # noqa: PTH101, PTH116
        if not os.path.islink(path) and os.path.isdir(path):  # noqa: PTH112, PTH114
            os.chmod(path, stat.S_IRWXU)  # noqa: PTH101
            shutil.rmtree(path)
        else:
            function(path)

    if folder.exists():
        shutil.rmtree(folder, onerror=again)
