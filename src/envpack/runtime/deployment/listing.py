"""The list of deployments on this host, read from the deployments themselves."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator

from envpack.runtime.deployment.record import Generation, Record
from envpack.runtime.deployment.registry import registered
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.tree.prefix import installed_prefix

OK, UNTESTED, PREFIX_PENDING, UNREADABLE = "ok", "untested", "not settled", "unreadable"


@dataclass(frozen=True)
class DeploymentInfo:
    """A deployment in the list.

    Args:
        path: Its folder.
        current: What is deployed.
        host: The result of the host check: "passed", "not checked", or which requirements were allowed to fail; ""
            when the record has none.
        size: Bytes of its files; files with several hard links count once.
        shared: How many of these bytes are in files with hard links elsewhere, such as in a store.
        kept: The previous generations that still exist, the newest first.
        state: `OK`, `UNTESTED`, `PREFIX_PENDING` (its prefix is not written yet, or that of another path) or
            `UNREADABLE`.
    """

    path: str
    current: Generation
    host: str
    size: int
    shared: int
    kept: tuple[int, ...]
    state: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            **self.current.as_dict(),
            "host": self.host,
            "size": self.size,
            "shared": self.shared,
            "kept": list(self.kept),
            "state": self.state,
        }


def list_deployments(paths: Iterable[Path] | None = None, *, sizes: bool = True) -> Iterator[DeploymentInfo]:
    """Yield the deployments at ``paths``, each once, or every registered one, sorted by path.

    With ``sizes``, each is walked through to measure its files; without, the size is the one in its record.
    """
    for path in registered() if paths is None else sorted(set(paths)):
        found = deployment_info(path, sizes=sizes)
        if found is not None:
            yield found


def deployment_info(path: Path, *, sizes: bool = True) -> DeploymentInfo | None:
    """Return one deployment, or None where there is none.

    When a part of it can't be read, its state is `UNREADABLE`. ``sizes``: see `list_deployments`.
    """
    state = DeploymentState(path)
    try:
        record = state.current()
        if record is None:
            return None
        kept = tuple(each.record.generation for each in state.kept_in_sight())
        size, shared = measure(path) if sizes else (record.size, 0)
        shown = record.destination if state.is_named(record.destination) else str(path)
        return DeploymentInfo(shown, record.summary, _host(record), size, shared, kept, _state(path, record))
    except OSError:
        unknown = Generation(0, "", "", "", "", 0, None)
        return DeploymentInfo(str(path), unknown, "", 0, 0, (), UNREADABLE)


def _state(path: Path, record: Record) -> str:
    prefix = installed_prefix(path)
    if prefix is None or not os.path.isdir(prefix) or not os.path.samefile(prefix, path):  # as activation decides
        return PREFIX_PENDING
    return OK if record.tested else UNTESTED


def _host(record: Record) -> str:
    if not record.check:
        return ""
    if not record.check.get("check"):
        return "not checked"
    overridden = record.check.get("overridden")
    if not isinstance(overridden, list) or not overridden:
        return "passed"
    return f"allowed: {', '.join(map(str, overridden))}"


def measure(root: Path) -> tuple[int, int]:
    """Return the bytes of all files below ``root``, and of those among them that have hard links elsewhere.

    A file with several names counts once. Raises OSError.
    """
    total = shared = 0
    names: dict[tuple[int, int], list[int]] = {}
    pending = [os.fspath(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                if status.st_nlink == 1:
                    total += status.st_size
                else:
                    names.setdefault((status.st_ino, status.st_size), []).append(status.st_nlink)
    for (_, size), links in names.items():
        total += size
        shared += size if links[0] > len(links) else 0
    return total, shared
