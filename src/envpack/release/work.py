"""Private work folders for builds, removed at the end, also after an error."""

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
    """Return the folder for work folders: ``$ENVPACK_WORK``, else ``envpack/work`` in the user's cache folder.

    rattler's and uv's own caches are in the same cache folder, so that packages can be hard-linked and not copied.
    """
    if environ.get("ENVPACK_WORK"):
        return Path(environ["ENVPACK_WORK"]).expanduser()
    # https://specifications.freedesktop.org/basedir-spec/latest/
    cache = environ.get("XDG_CACHE_HOME") or ""
    base = Path(cache) if cache.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "envpack" / "work"


@contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """Yield a new folder under ``root``, removed at the end; folders of killed processes are removed first.

    Raises:
        DestinationError: The folder can't be made.
    """
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / ".lock", wait=True):  # else a folder could be removed before it has its lock
                _sweep(root)
                folder = Path(tempfile.mkdtemp(dir=root))
                stack.callback(_remove, folder)
                stack.enter_context(locked(folder / ".lock", wait=False))
        except OSError as problem:
            raise DestinationError(
                f"can't create a work directory in {root}: {problem.strerror}",
                hint="Choose another one with --work-dir or ENVPACK_WORK.",
            ) from None
        yield folder


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink() and (folder / ".lock").is_file():
            try:
                with locked(folder / ".lock", wait=False):
                    _remove(folder)
            except DestinationError:
                continue  # another process uses it


def _remove(folder: Path) -> None:
    """Remove a tree, also where a package made a folder read-only."""

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
