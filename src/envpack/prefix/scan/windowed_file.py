"""Large files that are searched and read in windows, one of which is in memory at a time.

They are read, not mapped: the pages of a map count as the process's memory until the kernel takes them away, and
if another process truncates a mapped file meanwhile, this process is killed.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, overload

from envpack.runtime.errors import PackError

WINDOW = 1 << 20
"""Bytes of a window: small enough to stay in a processor's cache while it is searched several times."""

_FIRST = 64 << 10
"""Bytes of the first window of a search: a needle that is found once is usually found again soon."""

_ZEROS = bytes(WINDOW + (1 << 16))
"""Zeros, as the holes of a sparse file read: comparing with them finds holes at the speed of memory."""


class _Opened:
    """An open file, closed with the last `WindowedFile` that reads from it."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor, self.name = os.dup(descriptor), name

    def __del__(self) -> None:
        os.close(self.descriptor)


class WindowedFile:
    """A range of a file's bytes that can be searched and sliced like `bytes`, and is read on demand.

    Every method that reads raises PackError when the file has become shorter or can't be read any more.
    """

    def __init__(self, opened: _Opened, start: int, stop: int) -> None:
        self._opened, self._start, self._stop = opened, start, stop
        self._scanned: dict[bytes, list[int]] = {}
        self._reach = 0
        self._sha256 = ""

    @classmethod
    def of(cls, descriptor: int, name: str) -> WindowedFile:
        """Return the whole of an open file, which may be closed afterwards; ``name`` is for messages."""
        return cls(_Opened(descriptor, name), 0, os.fstat(descriptor).st_size)

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, int):
            return self._read(range(len(self))[key], 1)[0]
        start, stop, step = key.indices(len(self))
        assert step == 1
        return self._read(start, max(0, stop - start))

    def _read(self, start: int, size: int) -> bytes:
        try:
            data = os.pread(self._opened.descriptor, size, self._start + start)
        except OSError as problem:
            raise PackError(f"can't read {self._opened.name}: {problem.strerror}") from None
        if len(data) < size:  # also for reads over 2 GiB (read(2))
            rest = bytearray(size - len(data))
            self.read_into(memoryview(rest), start + len(data))
            data += rest
        return data

    def part(self, start: int, stop: int) -> WindowedFile:
        """Return a range of it, without reading anything yet."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return WindowedFile(self._opened, self._start + start, self._start + max(start, stop))

    def read_into(self, target: memoryview, start: int) -> None:
        """Fill ``target`` with the bytes from ``start`` on."""
        done = 0
        while done < len(target):
            try:
                read = os.preadv(self._opened.descriptor, [target[done:]], self._start + start + done)
            except OSError as problem:
                raise PackError(f"can't read {self._opened.name}: {problem.strerror}") from None
            if not read:
                raise PackError(
                    f"{self._opened.name} became shorter while the environment was packed",
                    hint="Pack again when no process writes to it.",
                )
            done += read

    def scan(self, needles: Mapping[bytes, bytes]) -> None:
        """Read the file once, to compute its digest and to find out which windows have which of ``needles``.

        Afterwards `sha256` needs no more reading, and `find` of a needle reads only the windows that have it.

        Args:
            needles: Byte strings, each with a part of it (or itself), which is searched for first.
        """
        found: dict[bytes, list[int]] = {needle: [] for needle in needles}
        probes = dict.fromkeys(needles.values())
        reach = max(map(len, needles), default=1) - 1
        state = hashlib.sha256()
        buffer = bytearray(reach + WINDOW)  # the end of the window before, and a window
        view = memoryview(buffer)
        for start in range(0, len(self), WINDOW):
            size = min(WINDOW, len(self) - start)
            window = view[reach : reach + size]
            self.read_into(window, start)
            state.update(window)
            # skip the holes of a sparse file at the speed of memory
            if not buffer[reach] and buffer.startswith(_ZEROS[: reach + size]):
                continue
            end = reach + size
            present = {probe for probe in probes if buffer.find(probe, 0, end) >= 0}
            for needle, probe in needles.items() if present else ():
                if probe in present and (probe == needle or buffer.find(needle, 0, end) >= 0):
                    found[needle].append(start)
            view[:reach] = bytes(view[size : size + reach])
        self._scanned, self._reach, self._sha256 = found, reach, state.hexdigest()

    @property
    def sha256(self) -> str:
        """Return the hex digest that `scan` computed; "" before that."""
        return self._sha256

    def find(self, needle: bytes, start: int = 0, end: int | None = None) -> int:
        """Find ``needle`` as `bytes.find` does, for offsets that are not negative."""
        stop = len(self) if end is None else min(end, len(self))
        for at, window in self._candidates(needle, start, stop):
            offset = window.find(needle)
            if offset >= 0:
                return at + offset
        return -1

    def find_all(self, needle: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
        """Yield the offsets of ``needle``, ascending, without overlaps; each part of the file is read once."""
        stop = len(self) if end is None else min(end, len(self))
        for at, window in self._candidates(needle, start, stop):
            offset = window.find(needle, max(0, start - at))
            while offset >= 0:
                yield at + offset
                start = at + offset + len(needle)
                offset = window.find(needle, offset + len(needle))

    def _candidates(self, needle: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of the parts of a range that may have ``needle``."""
        scanned = self._scanned.get(needle)
        if scanned is None:
            yield from self._windows(start, end, len(needle), only_data=bool(needle.strip(b"\0")))
            return
        for window in scanned[max(0, bisect(scanned, start) - 1) :]:
            first, last = max(start, window - self._reach), min(end, window + WINDOW)
            if window - self._reach >= end:
                break
            if first < last:
                yield first, self[first:last]

    def _windows(
        self, start: int, end: int, reach: int, size: int = _FIRST, *, only_data: bool = True
    ) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of windows that overlap so far that no needle of ``reach`` bytes is cut.

        The first window has ``size`` bytes, later ones more, up to WINDOW; ``only_data`` skips windows of zeros.
        """
        while start < end:
            window = self[start : min(start + size + reach - 1, end)]
            if not (only_data and _ZEROS.startswith(window)):
                yield start, window
            start += size
            size = min(4 * size, WINDOW)

    def __iter__(self) -> Iterator[bytes]:
        """Yield its bytes, window by window."""
        for start in range(0, len(self), WINDOW):
            yield self[start : start + WINDOW]


class Readable(Protocol):
    """Bytes that can be read in slices, in memory or not."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...


FileData = bytes | WindowedFile
"""A file's bytes: in memory, or on disk."""

FileChunk = bytes | memoryview | WindowedFile
"""Consecutive bytes of a file: in memory, or on disk."""


def part(data: FileChunk, start: int, stop: int) -> memoryview | WindowedFile:
    """Return ``data[start:stop]`` without a copy."""
    return data.part(start, stop) if isinstance(data, WindowedFile) else memoryview(data)[start:stop]


def in_memory(pieces: Iterable[FileChunk]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of ``pieces`` in order; large pieces are read window by window, on demand."""
    for piece in pieces:
        if isinstance(piece, WindowedFile):
            yield from piece
        else:
            yield piece
