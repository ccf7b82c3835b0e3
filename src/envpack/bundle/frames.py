"""Cutting byte streams into frames and compressing them on all cores, in order and in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from typing import BinaryIO

from envpack.bundle.codecs import Encoder
from envpack.prefix.scan.windowed_file import Large, Piece
from envpack.runtime.format.manifest import Frame
from envpack.runtime.fs.io import write_all

FRAME_SIZE = 4 << 20
"""Bytes of a frame before compression: small enough to keep every core busy and memory flat, and within 2% of
the size of one stream (measured on torch environments)."""


class FrameWriter:
    """Compresses what :meth:`write` is given, appends it to ``output``, and tells the frames of each segment.

    Every byte is copied once, into the frame it goes to; ``ahead`` frames are being compressed or wait for it.
    """

    def __init__(self, output: BinaryIO | FileIO, encoder: Encoder, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._output, self._encoder, self._pool, self._ahead = output, encoder, pool, ahead
        self._pending: deque[tuple[list[Frame], bytearray, Future[tuple[bytes, Frame]]]] = deque()
        self._spare: list[bytearray] = []
        self._buffer = bytearray(FRAME_SIZE)
        self._filled = 0
        self._frames: list[Frame] = []
        self.position = 0

    def write(self, piece: Piece) -> None:
        """Appends to the current segment. Raises PackError when a large file became shorter meanwhile."""
        size, done = len(piece), 0
        filled = self._filled + size
        if filled < FRAME_SIZE and not isinstance(piece, Large):
            self._buffer[self._filled : filled] = piece
            self._filled = filled
            self.position += size
            return
        data = piece if isinstance(piece, Large) else memoryview(piece)
        self.position += size
        while done < size:
            count = min(size - done, FRAME_SIZE - self._filled)
            room = memoryview(self._buffer)[self._filled : self._filled + count]
            if isinstance(data, Large):
                data.read_into(room, done)
            else:
                room[:] = data[done : done + count]
            done += count
            self._filled += count
            if self._filled == FRAME_SIZE:
                self._cut()

    def end_segment(self) -> list[Frame]:
        """Ends the segment. The list fills up as its frames get compressed, and is whole after :meth:`drain`."""
        if self._filled:
            self._cut()
        frames, self._frames = self._frames, []
        self.position = 0
        return frames

    def drain(self) -> None:
        """Waits until everything is compressed and written."""
        while self._pending:
            self._take_one()

    def _cut(self) -> None:
        data = memoryview(self._buffer)[: self._filled]
        self._pending.append((self._frames, self._buffer, self._pool.submit(compress, self._encoder, data)))
        while len(self._pending) > self._ahead:
            self._take_one()
        self._buffer, self._filled = self._spare.pop() if self._spare else bytearray(FRAME_SIZE), 0

    def _take_one(self) -> None:
        frames, buffer, future = self._pending.popleft()
        compressed, frame = future.result()
        self._spare.append(buffer)
        write_all(self._output.fileno(), compressed)
        frames.append(frame)


def compress(encoder: Encoder, data: bytes | memoryview) -> tuple[bytes, Frame]:
    """One frame: its bytes in the file, and what the manifest says of it."""
    compressed = encoder.frame(data)
    return compressed, Frame(len(compressed), len(data), hashlib.sha256(compressed).hexdigest())


def compress_all(encoder: Encoder, data: bytes) -> tuple[bytes, tuple[Frame, ...]]:
    """All of ``data`` as frames, at once: for the head."""
    pieces: Iterable[bytes] = (data[start : start + FRAME_SIZE] for start in range(0, len(data), FRAME_SIZE))
    done = [compress(encoder, piece) for piece in pieces]
    return b"".join(compressed for compressed, _ in done), tuple(frame for _, frame in done)
