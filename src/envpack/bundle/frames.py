"""Frames: byte streams cut into pieces and compressed on all cores, in order and in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from typing import BinaryIO

from envpack.bundle.codecs import Encoder
from envpack.prefix.scan.windowed_file import FileChunk, WindowedFile
from envpack.runtime.format.manifest import Frame
from envpack.runtime.fs.io import write_all

FRAME_SIZE = 4 << 20
"""Bytes of a frame before compression.

Small enough to keep every core busy and memory low; the result is within 2% of the size of one stream (measured on
torch environments).
"""


class FrameWriter:
    """A writer that cuts a byte stream into frames, compresses them and appends them to a file.

    Every byte is copied once, into the buffer of its frame.

    Args:
        output: File to append to.
        encoder: Compressor of the frames.
        pool: Threads that compress.
        ahead: Number of frames that may be in compression or wait for it.
    """

    def __init__(self, output: BinaryIO | FileIO, encoder: Encoder, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._output, self._encoder, self._pool, self._ahead = output, encoder, pool, ahead
        self._pending: deque[tuple[list[Frame], bytearray, Future[tuple[bytes, Frame]]]] = deque()
        self._spare: list[bytearray] = []
        self._buffer = bytearray(FRAME_SIZE)
        self._filled = 0
        self._frames: list[Frame] = []
        self.position = 0

    def write(self, piece: FileChunk) -> None:
        """Append a piece to the current segment.

        Raises:
            PackError: A large file became shorter since the prefix was read.
        """
        size, done = len(piece), 0
        filled = self._filled + size
        if filled < FRAME_SIZE and not isinstance(piece, WindowedFile):
            self._buffer[self._filled : filled] = piece
            self._filled = filled
            self.position += size
            return
        data = piece if isinstance(piece, WindowedFile) else memoryview(piece)
        self.position += size
        while done < size:
            count = min(size - done, FRAME_SIZE - self._filled)
            space = memoryview(self._buffer)[self._filled : self._filled + count]
            if isinstance(data, WindowedFile):
                data.read_into(space, done)
            else:
                space[:] = data[done : done + count]
            done += count
            self._filled += count
            if self._filled == FRAME_SIZE:
                self._cut()

    def end_segment(self) -> list[Frame]:
        """End the segment, and return the list of its frames.

        The list grows while the frames are compressed, and is complete after :meth:`drain`.
        """
        if self._filled:
            self._cut()
        frames, self._frames = self._frames, []
        self.position = 0
        return frames

    def drain(self) -> None:
        """Wait until everything is compressed and written."""
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
    """Compress one frame; return its bytes in the file and its entry in the manifest."""
    compressed = encoder.frame(data)
    return compressed, Frame(len(compressed), len(data), hashlib.sha256(compressed).hexdigest())


def compress_all(encoder: Encoder, data: bytes) -> tuple[bytes, tuple[Frame, ...]]:
    """Compress all of ``data`` as frames, in this thread: for the head of a bundle."""
    pieces: Iterable[bytes] = (data[start : start + FRAME_SIZE] for start in range(0, len(data), FRAME_SIZE))
    done = [compress(encoder, piece) for piece in pieces]
    return b"".join(compressed for compressed, _ in done), tuple(frame for _, frame in done)
