"""The interface of a source of a bundle's bytes, with two implementations: a file, and a forward-only stream.

``envpack.runtime.transport.http`` has the third: a file on an HTTP server that supports range requests.
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
"""An offset and a size, both in bytes."""

_PIECE = 1 << 20
_F_SETPIPE_SZ = 1031
"""The command F_SETPIPE_SZ of fcntl(2); the fcntl module has it from Python 3.10 on."""


class ByteSource:
    """A source of a bundle's bytes.

    `read` may be called from several threads; a stream must be read in ascending order.

    Attributes:
        name: the name of the bundle in messages.
        origin: the origin that a deployment records.
        size: the bundle's size in bytes; None where it is unknown until the end is reached.
        advice: a hint to the user where the bytes are not a bundle; "" for none.
        at_hand: bytes at the beginning that are cheap to read: those behind them may need another request.
        is_remote: the source is remote: bytes that are not read are not transferred either.
        is_seekable: any part may be read at any time, also by a process forked from this one.
    """

    is_remote = False
    is_seekable = False
    at_hand = 64 << 10

    def __init__(self, name: str, origin: str, size: int | None) -> None:
        self.name, self.origin, self.size = name, origin, size
        self.advice = ""

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, both in bytes; fewer only at the end of the bundle.

        Raises:
            IntegrityError: a stream ends before ``offset``.
            FetchError: a server does not give the bytes.
            OSError: reading failed or was cancelled.
        """
        raise NotImplementedError

    def read_again(self, offset: int, size: int) -> bytes | None:
        """Return bytes that were wrong in `read` from another place; None where there is no other."""
        return None

    def prefetch(self, extents: Sequence[Extent]) -> None:
        """Announce the next reads, in this order, so that they can be prefetched; prefetching is optional."""

    def cancel(self) -> None:
        """Cancel reading: every `read` that waits, in any thread, and every later one raises an error."""

    def close(self) -> None:
        """Release all resources; nothing can be read afterwards."""


class FileSource(ByteSource):
    """An open regular file; `close` closes the descriptor it was given."""

    is_seekable = True

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


class ByteStream(Protocol):
    """A byte stream that can be read only once, in order."""

    def readinto(self, view: memoryview) -> int:
        """Read into the beginning of ``view``, waiting for at least one byte, or for `cancel`, which is an error.

        Returns:
            The number of bytes read; 0 at the end of the stream.
        """
        ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class StreamSource(ByteSource):
    """A source over a byte stream: it is read once, in ascending order; bytes between two reads are skipped."""

    def __init__(self, stream: ByteStream, name: str, origin: str, size: int | None = None) -> None:
        super().__init__(name, origin, size)
        self._stream = stream
        self._position = 0
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            if offset < self._position:
                raise ValueError(f"{self.name}: byte {offset} has passed already")
            while self._position < offset:
                if not self._take(min(_PIECE, offset - self._position)):
                    raise IntegrityError(f"{self.name} is truncated: it ends at byte {self._position}")
            return self._take(size)

    def _take(self, size: int) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = 0
        while got < size:
            more = self._stream.readinto(view[got:])
            if not more:
                break
            got += more
        self._position += got
        return bytes(view[:got])

    def cancel(self) -> None:
        self._stream.cancel()

    def close(self) -> None:
        self._stream.close()


class Pipe:
    """A byte stream from a pipe, or from any other descriptor that is not seekable; `close` closes it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wakes, self._waker = os.pipe()
        self._poll = select.poll()
        for each in (fd, self._wakes):
            self._poll.register(each, select.POLLIN)
        with suppress(OSError):  # fewer switches between writer and reader; a socket does not have it
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIECE)

    def readinto(self, view: memoryview) -> int:
        while True:
            ready = {fd for fd, _ in self._poll.poll()}
            if self._wakes in ready:
                raise InterruptedError("reading was stopped")
            with suppress(BlockingIOError):
                return os.readv(self._fd, [view])

    def cancel(self) -> None:
        os.write(self._waker, b"x")

    def close(self) -> None:
        for fd in (self._fd, self._wakes, self._waker):
            os.close(fd)
