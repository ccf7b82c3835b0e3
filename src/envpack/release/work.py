"""Private work folders for builds, removed at the end, also after an error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from envpack.lock.condarc import home_of
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import exists, is_folder, make_folders, remove_tree
from envpack.runtime.fs.temporary import new_folder


def work_root(environ: Mapping[str, str]) -> Path:
    """Return the folder for work folders: ``$ENVPACK_WORK``, else ``envpack/work`` in the user's cache folder.

    rattler's and uv's own caches are in the same cache folder, so that packages can be hard-linked and not copied.
    """
    if environ.get("ENVPACK_WORK"):
        return Path(environ["ENVPACK_WORK"]).expanduser()
    # https://specifications.freedesktop.org/basedir-spec/latest/
    cache = environ.get("XDG_CACHE_HOME") or ""
    base = Path(cache) if cache.startswith("/") else home_of(environ) / ".cache"
    return base / "envpack" / "work"


@contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """Yield a new folder under ``root``, removed at the end; folders of killed processes are removed first.

    Raises:
        DestinationError: The folder can't be made.
    """
    root = root.absolute()  # programs use the folder from other working directories
    with ExitStack() as stack:
        try:
            make_folders(root)
            root.mkdir(exist_ok=True)  # an error where it is a file
            with locked(root / ".lock", wait=True):  # else a folder could be removed before it has its lock
                _sweep(root)
                folder = stack.enter_context(new_folder(root / "build", short=True))
                stack.enter_context(locked(folder / ".lock", wait=False))
        except OSError as problem:
            raise DestinationError(
                f"can't create a work directory in {root}: {problem.strerror}",
                hint="Choose another one with --work-dir or ENVPACK_WORK.",
            ) from None
        yield folder


def _sweep(root: Path) -> None:
    """Remove this user's work folders that no process has locked."""
    for folder in root.iterdir():
        with suppress(DestinationError, FileNotFoundError):  # another process uses it, or has just removed it
            if is_folder(folder) and folder.lstat().st_uid == os.geteuid() and exists(folder / ".lock"):
                with locked(folder / ".lock", wait=False):
                    remove_tree(folder)
