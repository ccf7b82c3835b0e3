"""The exchange of two trees: in one step, or, where a filesystem can't do that, in journalled steps."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator

from envpack.runtime.deployment.state import DISPLACED, SWAP_JOURNAL
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.exchange import UNSUPPORTED, exchange
from envpack.runtime.fs.io import READ_FOLDER, read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import exists
from envpack.runtime.fs.sync import sync_folder


def swap(destination: Path, inside: Path, *, onward: bool = False) -> None:
    """Exchange the tree at ``destination`` with the tree at ``inside``.

    Takes one step where the filesystem can exchange two names. Elsewhere it takes three renames, and between the
    first two there is nothing at ``destination``. They are written to a journal before, with which `finish_swap`
    recovers from a crash.

    Args:
        destination: The destination.
        inside: A path in its state directory.
        onward: Recovery finishes the exchange instead of rolling it back: for an exchange that is itself a
            rollback.

    Raises:
        OSError: The two can't be exchanged.
    """
    with writable_dirs(destination, inside):
        try:
            exchange(inside, destination)
        except OSError as problem:
            if problem.errno not in UNSUPPORTED:
                raise
            _swap_in_steps(destination, inside, onward)


def _swap_in_steps(destination: Path, inside: Path, onward: bool) -> None:
    displaced, journal = inside.with_name(DISPLACED), inside.with_name(SWAP_JOURNAL)
    replace_own_file(journal, json.dumps({"inside": inside.name, "onward": onward}).encode())
    try:
        os.rename(destination, displaced)
        os.rename(inside, destination)
        os.rename(displaced, inside)
    except BaseException:
        with suppress(OSError):
            finish_swap(destination, inside.parent, lambda path: None)
        raise
    os.unlink(journal)


def finish_swap(destination: Path, state_dir: Path, keep: Callable[[Path], None]) -> None:
    """Finish or roll back an exchange that a command was stopped in.

    Args:
        destination: The destination.
        state_dir: Its state directory.
        keep: Called with the displaced tree when both paths of the exchange are occupied, to keep it under another
            name.

    Raises:
        OSError: A tree can't be renamed.
    """
    displaced, journal = state_dir / DISPLACED, state_dir / SWAP_JOURNAL
    if exists(displaced):
        name, onward = _journalled(journal)
        inside = state_dir / name
        if not exists(destination) and onward and exists(inside):
            os.rename(inside, destination)
        if not exists(destination):
            os.rename(displaced, destination)
        elif exists(inside):
            keep(displaced)
        else:
            os.rename(displaced, inside)
    if exists(journal):
        os.unlink(journal)
        sync_folder(destination.parent)
        sync_folder(state_dir)


def _journalled(journal: Path) -> tuple[str, bool]:
    """Return the name in the state directory, and whether recovery finishes the exchange."""
    try:
        document = json_value(read_file(journal))
        name, onward = document["inside"], document.get("onward") is True
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return DISPLACED, False
    return (name, onward) if isinstance(name, str) and "/" not in name and name.strip(".") else (DISPLACED, False)


@contextmanager
def writable_dirs(*trees: Path) -> Iterator[None]:
    """Make folders writable while the block renames them, then restore their modes, wherever they are.

    rename(2) requires write permission on a folder that gets another parent. Raises OSError.
    """
    closed = []
    try:
        for tree in trees:
            status = os.lstat(tree)
            if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IWUSR:
                fd = os.open(tree, READ_FOLDER)
                closed.append((fd, stat.S_IMODE(status.st_mode)))
                os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
        yield
    finally:
        for fd, mode in closed:
            with suppress(OSError):
                os.fchmod(fd, mode)
            os.close(fd)
