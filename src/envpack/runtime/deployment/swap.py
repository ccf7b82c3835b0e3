"""Two trees trade places: in one step, or, where a filesystem can't do that, in steps that survive a crash."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator

from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.fs.exchange import WITHOUT, exchange
from envpack.runtime.fs.paths import is_there
from envpack.runtime.fs.sync import sync_folder

SWITCHING = "switching"
ASIDE = "aside"


def swap(final: Path, inside: Path, *, onward: bool = False) -> None:
    """What stands at ``final`` and what stands at ``inside``, a path in the folder beside, trade places.

    In one step where the filesystem can do that. Elsewhere in three, between the first two of which nothing stands
    at ``final``; they are written down before, so that `finish_swap` takes them back, or (``onward``, for what is
    a way back itself) finishes them. Raises OSError.
    """
    with movable(final, inside):
        try:
            exchange(inside, final)
        except OSError as problem:
            if problem.errno not in WITHOUT:
                raise
            _swap_in_steps(final, inside, onward)


def _swap_in_steps(final: Path, inside: Path, onward: bool) -> None:
    aside, journal = inside.with_name(ASIDE), inside.with_name(SWITCHING)
    replace_file(journal, json.dumps({"inside": inside.name, "onward": onward}).encode())
    try:
        os.rename(final, aside)
        os.rename(inside, final)
        os.rename(aside, inside)
    except BaseException:
        with suppress(OSError):
            finish_swap(final, inside.parent, lambda path: None)
        raise
    os.unlink(journal)


def finish_swap(final: Path, side: Path, keep: Callable[[Path], None]) -> None:
    """Finishes the steps that a command was stopped at, or takes them back.

    ``keep`` is called for a tree that has no place any more because somebody has put something else there. Raises
    OSError.
    """
    aside, journal = side / ASIDE, side / SWITCHING
    if is_there(aside):
        name, onward = _journalled(journal)
        inside = side / name
        if not is_there(final) and onward and is_there(inside):
            os.rename(inside, final)
        if not is_there(final):
            os.rename(aside, final)
        elif is_there(inside):
            keep(aside)
        else:
            os.rename(aside, inside)
    if is_there(journal):
        os.unlink(journal)
        sync_folder(final.parent)
        sync_folder(side)


def _journalled(journal: Path) -> tuple[str, bool]:
    """The name in the folder beside, and whether it is to go on."""
    try:
        document = json.loads(journal.read_bytes())
        name, onward = document["inside"], document.get("onward") is True
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return ASIDE, False
    return (name, onward) if isinstance(name, str) and "/" not in name and name.strip(".") else (ASIDE, False)


@contextmanager
def movable(*trees: Path) -> Iterator[None]:
    """While these folders change places, their own modes let them: rename(2) demands write permission on a folder
    that gets another parent. Afterwards each has its mode again, wherever it is."""
    closed = []
    try:
        for tree in trees:
            status = os.lstat(tree)
            if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IWUSR:
                fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
                closed.append((fd, stat.S_IMODE(status.st_mode)))
                os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
        yield
    finally:
        for fd, mode in closed:
            with suppress(OSError):
                os.fchmod(fd, mode)
            os.close(fd)
