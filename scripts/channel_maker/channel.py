"""The channel folder: one writer at a time, packages appear complete, then the index."""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
import zipfile
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
    descriptor = _take(channel, waiting)
    try:
        (channel / "noarch").mkdir(exist_ok=True)
        yield
    finally:
        for folder in (channel / "noarch", channel):
            _remove_if_empty(folder)
        os.close(descriptor)


def _take(channel: Path, waiting: Callable[[], None]) -> int:
    """Return a descriptor of the folder that holds its lock until it is closed."""
    while True:
        try:
            channel.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(channel, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ChannelError(f"The channel {channel} can't be created or read: {error.strerror}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # another maker may have failed meanwhile and taken its empty folder away
        if channel.exists() and os.path.samestat(os.fstat(descriptor), channel.stat()):
            return descriptor
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


@contextmanager
def work_folder(channel: Path) -> Iterator[Path]:
    """Create a temporary folder on the channel's file system, beside it if possible; remove it at the end."""
    parent = channel.resolve().parent
    if parent.stat().st_dev != channel.stat().st_dev or not os.access(parent, os.W_OK):
        parent = channel
    with tempfile.TemporaryDirectory(prefix=f".{channel.name}-", suffix=".tmp", dir=parent) as folder:
        yield Path(folder)


def has(channel: Path, identity: PackageIdentity) -> bool:
    """Return whether the channel has this package."""
    return (channel / identity.subdir / identity.file_name).is_file()


def check_packages(channel: Path) -> None:
    """Raise :class:`ChannelError` where the channel holds a damaged package, which no index can be made with."""
    damaged = [path for path in sorted(channel.glob("*/*.conda")) if not zipfile.is_zipfile(path)]
    if damaged:
        raise ChannelError(
            f"The channel holds damaged package files: {', '.join(str(path) for path in damaged)}.",
            hint="Remove them and run again.",
        )


def publish(channel: Path, finished: list[tuple[PackageIdentity, Path]]) -> None:
    """Move finished package files into the channel and bring its index up to date; both or neither.

    Raises :class:`ChannelError` where the indexer fails.
    """
    moved: list[Path] = []
    try:
        for identity, path in finished:
            folder = channel / identity.subdir
            folder.mkdir(exist_ok=True)
            moved.append(path.replace(folder / identity.file_name))
        _index(channel)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    finally:
        # the indexer's own, left behind empty
        _remove_if_empty(channel / ".tmp")


def _index(channel: Path) -> None:
    # imported here: it takes a moment, and a mistake in the arguments needs no indexer
    from rattler.index import index_fs

    try:
        asyncio.run(index_fs(channel))
    except Exception as error:  # the indexer documents no type of its own
        raise ChannelError(f"The channel {channel} can't be indexed: {error}") from None
