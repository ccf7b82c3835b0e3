"""A file in a bundle that is read at any offset: its frames are read and unpacked when they are needed."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.reader.bundle import Bundle, Located

_KEPT = 2
"""Unpacked frames that stay in memory, of 16 MiB at most each. Headers are read in ascending order, except those
at the end of a library, which are read first."""


class BundledFile:
    """The bytes of a file in a bundle, read on demand.

    Every slice raises IntegrityError where the bundle is damaged, or the file is not in these frames.

    Args:
        bundle: The bundle, not a stream.
        frames: The frames of the file's segment.
        record: The record of the file.
    """

    def __init__(self, bundle: Bundle, frames: Sequence[Located], record: PathRecord) -> None:
        self._bundle, self._frames, self._record = bundle, frames, record
        self._starts = [0, *accumulate(each.frame.size for each in frames)]
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def __len__(self) -> int:
        return self._record.size

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: int | slice, /) -> int | bytes:
        if isinstance(key, int):
            return self._read(range(len(self))[key], 1)[0]
        start, stop, step = key.indices(len(self))
        assert step == 1
        return self._read(start, max(0, stop - start))

    def _read(self, start: int, size: int) -> bytes:
        position, end = self._record.offset + start, self._record.offset + start + size
        pieces = []
        while position < end:
            index = bisect_right(self._starts, position) - 1
            if not 0 <= index < len(self._frames):
                raise IntegrityError(f"{self._record.path!r} is outside its segment")
            begin = position - self._starts[index]
            piece = self._frame(index)[begin : begin + end - position]
            pieces.append(piece)
            position += len(piece)
        return b"".join(pieces)

    def _frame(self, index: int) -> bytes:
        data = self._kept.get(index)
        if data is None:
            data = self._bundle.load(self._frames[index])
            self._kept[index] = data
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return data
