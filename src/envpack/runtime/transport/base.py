"""Where a bundle's bytes come from, as one small interface: a file, or a stream that only goes forward.

``envpack.runtime.transport.http`` has the third kind, a file on an HTTP server, of which ranges can be asked for.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
from contextlib import suppress
from typing import Protocol, Sequence, Tuple

from envpack.runtime.errors import IntegrityError

Extent = Tuple[int, int]
"""Offset and size, in bytes."""

_PIECE = 1 << 20
_F_SETPIPE_SZ = 1031
"""fcntl(2); the fcntl module has it from Python 3.10 on."""


class Access:
    """The bytes of a bundle. ``name``: what to call it in messages; ``origin``: what a deployment records of where
    it came from; ``size``: its bytes, None where only its end will tell; ``advice``: what to do where it turns out
    to be no bundle; ``is_far``: whether what is not read of it stays on a server; ``is_file``: any part may
    be read at any time, also by a process forked from this one.

    `read` may be called from several threads; a stream has to be read in ascending order.
    """

    is_far = False
    is_file = False

    def __init__(self, name: str, origin: str, size: int | None) -> None:
        self.name, self.origin, self.size = name, origin, size
        self.advice = ""

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on; fewer only where the bundle ends."""
        raise NotImplementedError

    def expect(self, extents: Sequence[Extent]) -> None:
        """Tells what will be read next, in this order, so that it can be fetched ahead; nothing has to be."""

    def stop(self) -> None:
        """Makes every `read` that waits, in whatever thread, and every later one raise an error."""

    def close(self) -> None:
        """Gives back what is held; nothing can be read afterwards."""


class FileAccess(Access):
    """An open file, whose descriptor it takes over."""

    is_file = True

    def __init__(self, fd: int, name: str, origin: str) -> None:
        super().__init__(name, origin, os.fstat(fd).st_size)
        self._fd = fd

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        os.close(self._fd)


class Flow(Protocol):
    """Bytes that come one after the other."""

    def readinto(self, view: memoryview) -> int:
        """Fills the beginning of ``view``, waiting for at least one byte; 0 at the end. `stop` ends the wait."""
        ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class StreamAccess(Access):
    """Bytes that can be read once, in ascending order; what is not asked for is read over."""

    def __init__(self, flow: Flow, name: str, origin: str, size: int | None = None) -> None:
        super().__init__(name, origin, size)
        self._flow = flow
        self._position = 0
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            if offset < self._position:
                raise ValueError(f"{self.name}: byte {offset} has passed already")
            while self._position < offset:
                if not self._take(min(_PIECE, offset - self._position)):
                    raise IntegrityError(f"{self.name} is cut short: it ends at byte {self._position}")
            return self._take(size)

    def _take(self, size: int) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = 0
        while got < size:
            more = self._flow.readinto(view[got:])
            if not more:
                break
            got += more
        self._position += got
        return bytes(view[:got])

    def stop(self) -> None:
        self._flow.stop()

    def close(self) -> None:
        self._flow.close()


class Pipe:
    """A pipe, or anything else with a descriptor that can't be read at any offset; takes the descriptor over."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wakes, self._waker = os.pipe()
        self._poll = select.poll()
        for each in (fd, self._wakes):
            self._poll.register(each, select.POLLIN)
        with suppress(OSError):  # fewer turns for who writes and who reads; a socket has no such thing
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIECE)

    def readinto(self, view: memoryview) -> int:
        while True:
            ready = {fd for fd, _ in self._poll.poll()}
            if self._wakes in ready:
                raise InterruptedError("reading was stopped")
            with suppress(BlockingIOError):
                return os.readv(self._fd, [view])

    def stop(self) -> None:
        os.write(self._waker, b"x")

    def close(self) -> None:
        for fd in (self._fd, self._wakes, self._waker):
            os.close(fd)
