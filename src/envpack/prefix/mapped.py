"""Large files, looked at where they lie: searched and read in windows, of which one at a time is in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, overload

WINDOW = 16 << 20
"""Bytes of a window. A multiple of every page size."""

_FIRST = 64 << 10
"""Bytes of the first window when something is looked for: what is there once is there again soon."""

_ZEROS = bytes(WINDOW + (1 << 16))
"""What a sparse file is made of: to be told from data at the speed of memory."""


class Mapped(mmap.mmap):
    """A file mapped for reading, with a fast `find` (mmap's own compares byte by byte before Python 3.13)."""

    _absent: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, file: BinaryIO) -> Mapped:
        """The whole of an open file that is not empty."""
        return cls(file.fileno(), 0, access=mmap.ACCESS_READ)

    def look_for(self, needles: Iterable[bytes]) -> None:
        """Goes through the file once, so that looking for those of ``needles`` that are not in it is free."""
        missing = set(needles)
        for _, window in self._windows(0, len(self), max(map(len, missing), default=1), WINDOW):
            missing = {needle for needle in missing if needle not in window}
        self._absent = frozenset(missing)

    def find(self, needle: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        """As `bytes.find`, for offsets that are not negative."""
        if needle in self._absent:
            return -1
        stop = len(self) if end is None else min(end, len(self))
        only_data = bool(needle.strip(b"\0"))
        for at, window in self._windows(start, stop, len(needle), only_data=only_data):
            offset = window.find(needle)
            if offset >= 0:
                return at + offset
        return -1

    def _windows(
        self, start: int, end: int, reach: int, size: int = _FIRST, *, only_data: bool = True
    ) -> Iterator[tuple[int, bytes]]:
        """Offsets and pieces, of ``size`` bytes and then more, overlapping so far that nothing of ``reach`` bytes
        is cut; ``only_data``: without those of nothing but zeros."""
        while start < end:
            window = self[start : min(start + size + reach - 1, end)]
            self.forget()
            if not (only_data and _ZEROS.startswith(window)):
                yield start, window
            start += size
            size = min(4 * size, WINDOW)

    def forget(self) -> None:
        """Lets go of the memory that holds parts of the file; what is looked at again is read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED)


class Windows(Sequence[memoryview]):
    """The bytes of the pieces given, in pieces no larger than WINDOW, to be taken in order: of mapped files, only
    the one at hand stays in memory."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        views = [memoryview(piece) for piece in pieces]
        self._pieces = [view[at : at + WINDOW] for view in views for at in range(0, len(view), WINDOW)]

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> list[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | list[memoryview]:
        if isinstance(index, int) and index > 0:
            mapped = self._pieces[index - 1].obj
            if isinstance(mapped, Mapped):
                mapped.forget()
        return self._pieces[index]
