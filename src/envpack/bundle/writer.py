"""Writer of a bundle: segments first go to a temporary payload file, then head and payload to the output.

The head is first in the file but known last, so the payload waits in a file without a name beside the output. One
copy inside the kernel appends it to the head and punches holes in that file, so that the disk holds it only once.
The output appears by a rename (atomic replace), or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from envpack.bundle.append import copy, copy_and_punch
from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FrameWriter, compress, compress_all
from envpack.bundle.model import Item, SegmentIndex, StoredFrames, WrittenSegment, segment_index
from envpack.bundle.reader_limits import check_manifest, check_readable, check_table
from envpack.runtime.errors import DestinationError
from envpack.runtime.format import tar
from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import Frame, Manifest, PathRecord, Segment
from envpack.runtime.format.manifest_json import digest_line, manifest_to_json
from envpack.runtime.format.paths_json import join_table
from envpack.runtime.fs.io import write_all
from envpack.runtime.fs.paths import make_folders, remove_empty
from envpack.runtime.fs.temporary import new_file, unnamed_file
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import END_SEGMENT


def write_segment(frames: FrameWriter, id: str, items: Iterable[Item]) -> tuple[SegmentIndex, list[Frame]]:
    """Write a segment with these paths, in this order; return its entry and its frames.

    The list of frames is complete when they are compressed; see `FrameWriter.drain`.

    Args:
        frames: Writer of the segment's frames.
        id: Id of the segment.
        items: Paths of the segment.
    """
    records = []
    for item in items:
        record = item.record
        frames.write(tar.header(record))
        record = record._replace(offset=frames.position) if record.type == "file" else record
        for piece in item.pieces:
            frames.write(piece)
        frames.write(bytes(tar.padding(record.size)) if record.type == "file" else b"")
        records.append(record)
    return segment_index(id, records), frames.end_segment()


class BundleWriter:
    """A writer of one bundle; a context manager, so that a failure leaves no files behind.

    Args:
        output: Path of the bundle.
        encoder: Compressor of the frames.
        jobs: Number of threads that compress.

    Attributes:
        stored: Bytes of the finished bundle.
        written: Status of the finished bundle, None before.

    Raises:
        DestinationError: The output can't be written.
        PackError: The bundle would exceed the limits of readers.
    """

    def __init__(self, output: Path, encoder: Encoder, jobs: int) -> None:
        self._output, self._encoder = output, encoder
        self._segments: list[tuple[SegmentIndex, list[Frame]]] = []
        self._stored: dict[str, StoredFrames] = {}
        self._pool = threads(jobs, "compress")
        self._ahead = 2 * jobs
        self._folders: list[Path] = []
        self.stored = 0
        self.written: os.stat_result | None = None
        self._offsets: dict[str, int] = {}

    def __enter__(self) -> BundleWriter:
        try:
            self._folders = make_folders(self._output.parent)
            self._payload = unnamed_file(self._output.parent)
        except OSError as problem:
            remove_empty(self._folders)
            raise _unwritable(self._output, problem) from None
        self._frames = FrameWriter(self._payload, self._encoder, self._pool, self._ahead)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._payload.close()
        if kind is not None:
            remove_empty(self._folders)
        if isinstance(error, OSError):
            raise _unwritable(self._output, error) from None

    def add_segment(self, id: str, items: Iterable[Item]) -> None:
        """Append a segment with these paths, in this order."""
        self._segments.append(write_segment(self._frames, id, items))

    def add_stored(self, segment: SegmentIndex, stored: StoredFrames) -> None:
        """Append a segment that is compressed already; its bytes are copied when the bundle is finished."""
        self._segments.append((segment, list(stored.frames)))
        self._stored[segment.id] = stored

    def finish(self, draft: Manifest) -> Manifest:
        """Complete ``draft`` with the segments, sizes and the longest prefix, and write the output file.

        Returns:
            The manifest in the file.
        """
        self._frames.write(tar.END)
        end = self._frames.end_segment()
        self._frames.drain()
        manifest, table = complete(draft, [segment for segment, _ in self._segments])
        check_table(table)
        head, head_frames = compress_all(self._encoder, _member(PATHS_PATH, table))
        segments = [Segment(segment.id, tuple(frames)) for segment, frames in self._segments]
        segments.append(Segment(END_SEGMENT, tuple(end)))
        manifest = replace(manifest, codec=self._encoder.name, head=head_frames, segments=tuple(segments))
        data = manifest_to_json(manifest)
        first = _member(MANIFEST_PATH, data) + _member(DIGEST_PATH, digest_line(data))
        check_manifest(data, len(first))
        check_readable(data)
        self._assemble(compress(self._encoder, first)[0] + head, segments)
        return manifest

    def _assemble(self, head: bytes, segments: Sequence[Segment]) -> None:
        """Write head and segments to the output; segments that are not new come from the files that have them."""
        with new_file(self._output) as output:
            write_all(output.fd, head)
            taken = 0
            offset = len(head)
            for segment in segments:
                stored = self._stored.get(segment.id)
                if stored is None:
                    copy_and_punch(self._payload.fileno(), taken, output.fd, segment.stored)
                    taken += segment.stored
                else:
                    take = copy if stored.stay else copy_and_punch
                    take(stored.descriptor, stored.offset, output.fd, segment.stored)
                self._offsets[segment.id] = offset
                offset += segment.stored
            output.put(self._output)
            self.written = os.fstat(output.fd)
        self.stored = offset

    def segments(self) -> Iterator[WrittenSegment]:
        """Yield the segments of the finished bundle; call it after `finish`."""
        for index, frames in self._segments:
            yield WrittenSegment(index, tuple(frames), self._offsets[index.id])


def complete(draft: Manifest, segments: Sequence[SegmentIndex]) -> tuple[Manifest, bytes]:
    """Return ``draft`` with what follows from the segments, and their paths table."""
    table = join_table(segment.table for segment in segments)
    limits = (
        (segment.max_prefix_length, segment.limited_by)
        for segment in segments
        if segment.max_prefix_length is not None
    )
    longest, limited_by = min(limits, default=(None, ""))
    known = {segment.id: segment for segment in segments}
    packages = (
        replace(package, files=known[package.segment].paths, size=known[package.segment].size)
        for package in draft.packages
    )
    manifest = replace(
        draft,
        size=sum(segment.size for segment in segments),
        files=sum(segment.paths for segment in segments),
        paths_size=len(table),
        paths_sha256=sha256(table).hexdigest(),
        packages=tuple(packages),
        longest_prefix=longest,
        limited_by=limited_by,
    )
    return manifest, table


def _member(path: str, data: bytes) -> bytes:
    return tar.header(PathRecord(path, "file", size=len(data))) + data + bytes(tar.padding(len(data)))


def _unwritable(output: Path, problem: OSError) -> DestinationError:
    return DestinationError(
        f"can't write {output}: {problem.strerror}",
        hint="Choose another output, or free some disk space.",
    )
