"""The channel folder: one writer at a time, packages appear complete, then the index."""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.package import PackageIdentity


@contextmanager
def locked(channel: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make the folder ``channel`` where it is missing, and hold it against other makers meanwhile.

    ``waiting`` is called where another maker has it. A folder made here that stayed empty is taken away again.
    """
    try:
        (channel / "noarch").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(channel, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ChannelError(f"The channel folder {channel} can't be made or read: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        (channel / "noarch").mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in (channel / "noarch", channel):
            _remove_if_empty(folder)
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


@contextmanager
def work_folder(channel: Path) -> Iterator[Path]:
    """A temporary folder on the channel's file system, beside it where that is possible; gone afterwards."""
    parent = channel.resolve().parent
    if parent.stat().st_dev != channel.stat().st_dev or not os.access(parent, os.W_OK):
        parent = channel
    with tempfile.TemporaryDirectory(prefix=f".{channel.name}-", suffix=".tmp", dir=parent) as folder:
        yield Path(folder)


def has(channel: Path, identity: PackageIdentity) -> bool:
    """Whether the channel holds this very package."""
    return (channel / identity.subdir / identity.file_name).is_file()


def publish(channel: Path, finished: list[tuple[PackageIdentity, Path]]) -> None:
    """Move finished package files into the channel and bring its index up to date."""
    for identity, path in finished:
        folder = channel / identity.subdir
        folder.mkdir(exist_ok=True)
        path.replace(folder / identity.file_name)
    # imported here: it takes a moment, and a mistake in the arguments needs no indexer
    from rattler.index import index_fs

    asyncio.run(index_fs(channel))
