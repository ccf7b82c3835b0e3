"""Mirrors of a bundle: places that are nearer, from which its bytes are read first.

A mirror needs no trust: the head of a bundle comes from its origin, and every frame has a digest there. A mirror
that fails, or sends other bytes, is not asked again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Callable, Sequence
from urllib.parse import quote

from envpack.runtime.errors import EnvpackError, FetchError
from envpack.runtime.transport.base import ByteSource, Extent
from envpack.runtime.transport.open import file_name, is_remote, local_path, open_source, shown


class MirroredSource(ByteSource):
    """A source whose bytes are read from mirrors first, and from its origin where these fail.

    Args:
        origin: the source; closed with this one.
        mirrors: paths or URLs, see `mirror_of`, in order of preference.
        warn: called with a message about each mirror that is given up.
    """

    def __init__(self, origin: ByteSource, mirrors: Sequence[str], warn: Callable[[str], None]) -> None:
        super().__init__(origin.name, origin.origin, origin.size)
        self.is_remote, self.is_seekable, self.advice = origin.is_remote, origin.is_seekable, origin.advice
        self._origin, self._warn = origin, warn
        self._waiting = list(mirrors)
        self._mirror: ByteSource | None = None
        self._given_up: list[ByteSource] = []
        self._gave: dict[int, ByteSource] = {}
        self._extents: Sequence[Extent] = ()
        self._cancelled = False
        self._lock = threading.RLock()

    def read(self, offset: int, size: int) -> bytes:
        while True:
            source = self._current(offset)
            if source is self._origin:
                return source.read(offset, size)
            try:
                data = source.read(offset, size)
                if len(data) == size:
                    self._gave[offset] = source
                    return data
                problem = "it ends too early"
            except (EnvpackError, OSError) as error:
                if self._cancelled:
                    raise
                problem = getattr(error, "message", None) or str(error)
            self._give_up(source, problem)

    def read_again(self, offset: int, size: int) -> bytes | None:
        with self._lock:
            mirror = self._gave.get(offset, self._mirror)
            if mirror is not None:
                self._give_up(mirror, "it sent other bytes than the bundle has")
        return self._origin.read(offset, size)

    def prefetch(self, extents: Sequence[Extent]) -> None:
        with self._lock:
            self._extents = extents
            self._current(extents[0][0] if extents else 0).prefetch(extents)

    def _current(self, offset: int) -> ByteSource:
        """Return the source to read from next; ``offset``: where that is."""
        with self._lock:
            while self._mirror is None and self._waiting and not self._cancelled:
                where = self._waiting.pop(0)
                try:
                    self._mirror = self._opened(where)
                except (EnvpackError, OSError) as error:
                    self._warn(f"mirror {shown(where)}: {getattr(error, 'message', None) or error}")
                    if not self._waiting:
                        self._origin.prefetch(self._rest(offset))
                else:
                    self._mirror.prefetch(self._rest(offset))
            return self._mirror or self._origin

    def _opened(self, where: str) -> ByteSource:
        source = open_source(mirror_of(where, self._origin.name))
        if source.size not in (None, self.size):
            source.close()
            raise FetchError(f"{source.name} has {source.size:,} bytes, not {self.size:,}")
        return source

    def _give_up(self, mirror: ByteSource, problem: str) -> None:
        with self._lock:
            if mirror is not self._mirror:
                return  # another thread did
            self._mirror = None
            self._warn(f"mirror {mirror.name}: {problem}")
            mirror.cancel()
            self._given_up.append(mirror)
            if not self._waiting:
                self._origin.prefetch(self._rest(0))

    def _rest(self, offset: int) -> Sequence[Extent]:
        """Return the announced extents from the one with ``offset`` on; all where none has it."""
        for index, (start, size) in enumerate(self._extents):
            if start <= offset < start + size:
                return self._extents[index:]
        return self._extents

    def cancel(self) -> None:
        self._cancelled = True
        for source in filter(None, (self._mirror, self._origin)):
            source.cancel()

    def close(self) -> None:
        for source in (*self._given_up, *filter(None, (self._mirror, self._origin))):
            source.close()


def mirror_of(mirror: str, bundle: str) -> Path | str:
    """Return the path or URL of a bundle in a mirror.

    Args:
        mirror: the path or URL of the bundle there; or that of a folder, in which the bundle has its own name: a
            path of a folder, or an URL that ends with "/".
        bundle: the path or URL of the bundle.
    """
    name = file_name(local_path(bundle)) if is_remote(bundle) else os.path.basename(bundle)
    where = local_path(mirror)
    if isinstance(where, Path):
        return where / name if where.is_dir() else where
    return f"{where}{quote(name)}" if where.endswith("/") else where
