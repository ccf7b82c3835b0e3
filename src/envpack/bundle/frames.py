"""Cutting byte streams into frames and compressing them on all cores, in order and in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from envpack.bundle.codecs import Encoder
from envpack.runtime.model import Frame

FRAME_SIZE = 4 << 20
"""Bytes of a frame before compression: small enough to keep every core busy and memory flat, and within 2% of
the size of one stream (measured on torch environments)."""


class FrameWriter:
    """Compresses what :meth:`write` is given, appends it to ``output``, and tells the frames of each segment."""

    def __init__(self, output: BinaryIO, encoder: Encoder, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._output, self._encoder, self._pool, self._ahead = output, encoder, pool, ahead
        self._pending: deque[tuple[list[Frame], Future[tuple[bytes, Frame]]]] = deque()
        self._pieces: list[bytes | memoryview] = []
        self._buffered = 0
        self._frames: list[Frame] = []
        self.position = 0

    def write(self, data: bytes | memoryview) -> None:
        """Appends to the current segment. ``data`` may be reused as soon as :meth:`settle` was called."""
        while self._buffered + len(data) >= FRAME_SIZE:
            room = FRAME_SIZE - self._buffered
            self._pieces.append(data[:room])
            data = data[room:]
            self.position += room
            self._cut()
        if data:
            self._pieces.append(data)
            self._buffered += len(data)
            self.position += len(data)

    def settle(self) -> None:
        """Lets go of every buffer that was given: what is not yet compressed is copied."""
        if self._pieces:
            self._pieces = [b"".join(self._pieces)]

    def end_segment(self) -> list[Frame]:
        """Ends the segment. The list fills up as its frames get compressed, and is whole after :meth:`drain`."""
        if self._buffered:
            self._cut()
        frames, self._frames = self._frames, []
        self.position = 0
        return frames

    def drain(self) -> None:
        """Waits until everything is compressed and written."""
        while self._pending:
            self._take_one()

    def _cut(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._buffered = [], 0
        self._pending.append((self._frames, self._pool.submit(compress, self._encoder, data)))
        while len(self._pending) > self._ahead:
            self._take_one()

    def _take_one(self) -> None:
        frames, future = self._pending.popleft()
        compressed, frame = future.result()
        self._output.write(compressed)
        frames.append(frame)


def compress(encoder: Encoder, data: bytes) -> tuple[bytes, Frame]:
    """One frame: its bytes in the file, and what the manifest says of it."""
    compressed = encoder.frame(data)
    return compressed, Frame(len(compressed), len(data), hashlib.sha256(compressed).hexdigest())


def compress_all(encoder: Encoder, data: bytes) -> tuple[bytes, tuple[Frame, ...]]:
    """All of ``data`` as frames, at once: for the head."""
    pieces: Iterable[bytes] = (data[start : start + FRAME_SIZE] for start in range(0, len(data), FRAME_SIZE))
    done = [compress(encoder, piece) for piece in pieces]
    return b"".join(compressed for compressed, _ in done), tuple(frame for _, frame in done)
