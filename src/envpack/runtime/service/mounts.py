"""The paths outside the environment that a command needs: whether they are there, readable and large enough."""

from __future__ import annotations

import os
import stat
from typing import Iterable, Iterator

from envpack.runtime.errors import StartError
from envpack.runtime.format.services import Mount
from envpack.runtime.report import human_size


def require_mounts(mounts: Iterable[Mount]) -> None:
    """Check that each mount exists, can be read and is at least as large as it must be.

    Raises:
        StartError: One or more do not; the details say what was found and what is needed of each.
    """
    wrong = [problem for problem in map(_problem, mounts) if problem]
    if wrong:
        count = "a mount is" if len(wrong) == 1 else f"{len(wrong)} mounts are"
        raise StartError(
            f"{count} not as needed: {wrong[0]}",
            hint="Mount or copy it there, then start the command again.",
            details=wrong[1:],
        )


def _problem(mount: Mount) -> str:
    name = f"{mount.path} ({mount.why})" if mount.why else mount.path
    needed = f"; at least {human_size(mount.size)} needed" if mount.size else ""
    try:
        status = os.stat(mount.path)
    except OSError as problem:
        missing = isinstance(problem, FileNotFoundError)
        reason = "does not exist" if missing else f"can't be read: {problem.strerror}"
        return f"{name} {reason}{needed}"
    folder = stat.S_ISDIR(status.st_mode)
    if not os.access(mount.path, os.R_OK | (os.X_OK if folder else 0)):
        return f"{name} can't be read: Permission denied{needed}"
    found = 0
    for path, size in _files(mount.path) if folder else [(mount.path, status.st_size)]:
        if found >= mount.size:
            return ""
        if not os.access(path, os.R_OK):
            return f"{name}: {path} can't be read: Permission denied{needed}"
        found += size
    return f"{name}: {human_size(found)} found{needed}" if found < mount.size else ""


def _files(folder: str) -> Iterator[tuple[str, int]]:
    """Iterate over the files in a folder with their sizes in bytes, each file once.

    Links to files count as what they lead to: a cache of weights has links to files that are beside them.
    """
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        try:
            entries = sorted(os.scandir(pending.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                status = entry.stat()
            except OSError:  # a link that leads nowhere
                continue
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield entry.path, status.st_size
