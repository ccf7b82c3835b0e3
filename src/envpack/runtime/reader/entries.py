"""Iteration over the entries of a segment's tar stream, which must be those of the paths table."""

from __future__ import annotations

from typing import Callable, Iterable, Iterator

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format import tar
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.reader.bundle import END_SEGMENT

_NULS = bytes(tar.BLOCK)


class SegmentStream:
    """The uncompressed bytes of a segment, taken from the front piece by piece without a copy.

    Args:
        chunks: the uncompressed bytes.
        id: id of the segment, for errors.
        advance: called with the size in bytes of each chunk.
        start: offset in the segment, in bytes, at which ``chunks`` begin.
    """

    def __init__(
        self, chunks: Iterator[bytes | memoryview], id: str, advance: Callable[[int], None], start: int = 0
    ) -> None:
        self._chunks, self._id, self._advance = chunks, id, advance
        self._view = memoryview(b"")
        self.position = start

    def take(self, size: int) -> Iterator[memoryview]:
        """Iterate over the next ``size`` bytes, in pieces; raise IntegrityError when the segment ends before."""
        while size:
            if not self._view:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise IntegrityError(f"segment {self._id} ends before its last file does")
                self._view = memoryview(chunk)
                self._advance(len(chunk))
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def take_whole(self, header: bytes, record: PathRecord) -> memoryview | None:
        """Take the whole entry of a file, when all of it is in memory already, and return the file's data.

        Returns None, and takes nothing, when it is not in memory or does not match the record.
        """
        start, end = len(header), len(header) + record.size
        behind = end + tar.padding(record.size)
        view = self._view
        if len(view) < behind or self.position + start != record.offset:
            return None
        if view[:start] != header or view[end:behind] != _NULS[: behind - end]:
            return None
        self._view = view[behind:]
        self.position += behind
        return view[start:end]

    def expect(self, expected: bytes, what: str) -> None:
        """Take the next bytes; raise IntegrityError, which names them ``what``, when they are not ``expected``."""
        if b"".join(self.take(len(expected))) != expected:
            raise IntegrityError(f"segment {self._id}: {what} differs from the paths table")

    def finish(self) -> None:
        """Check that the segment ends here; raise IntegrityError when there is more data."""
        if self._view or next(self._chunks, None) is not None:
            raise IntegrityError(f"segment {self._id} has more data than the paths table")


def entries(
    chunks: Iterator[bytes | memoryview],
    id: str,
    records: Iterable[PathRecord],
    advance: Callable[[int], None],
    start: int = 0,
) -> Iterator[tuple[PathRecord, Iterator[memoryview]]]:
    """Iterate over the records of a segment, each with the data of its file (none for links and folders).

    The caller must take all data of one record before the next record.

    Args:
        chunks: the uncompressed tar stream.
        id: id of the segment.
        records: the records whose entries are in ``chunks``, in their order.
        advance: called with the size in bytes of each chunk.
        start: offset in the segment, in bytes, at which ``chunks`` and the entry of the first record begin.

    Raises:
        IntegrityError: the stream is not, byte for byte, the entries of the records.
    """
    stream = SegmentStream(chunks, id, advance, start)
    for record in records:
        header = tar.header(record)
        whole = stream.take_whole(header, record) if record.type == "file" else None
        if whole is not None:
            yield record, iter((whole,))
            continue
        stream.expect(header, f"the header of {record.path!r}")
        if record.type != "file":
            yield record, iter(())
            continue
        if stream.position != record.offset:
            raise IntegrityError(f"{record.path!r} does not begin at the offset in the paths table")
        yield record, stream.take(record.size)
        stream.expect(bytes(tar.padding(record.size)), f"the padding after {record.path!r}")
    if id == END_SEGMENT:
        stream.expect(tar.END, "the end-of-archive marker")
    stream.finish()
