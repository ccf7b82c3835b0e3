"""Putting a bundle together: segments into a payload beside the output, then head and payload into the file.

The head comes first in the file but is known last, so the payload waits in a temporary file of its own; moving
it behind the head is one copy in the kernel, which leaves no second one on the disk. The output appears by a
rename, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from envpack.bundle.append import copy, move
from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FrameWriter, compress, compress_all
from envpack.bundle.model import Item, Listed, Stored, listed
from envpack.bundle.reader_limits import check_manifest, check_table
from envpack.runtime.errors import DestinationError
from envpack.runtime.format import tar
from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import Frame, Manifest, PathRecord, Segment
from envpack.runtime.format.manifest_json import digest_line, manifest_to_json
from envpack.runtime.format.paths_json import join_table
from envpack.runtime.fs.io import write_all
from envpack.runtime.fs.paths import beside, make_folders, remove_empty
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.reader.bundle import END_SEGMENT


def write_segment(frames: FrameWriter, id: str, items: Iterable[Item]) -> tuple[Listed, list[Frame]]:
    """Writes a segment with these paths, in this order; its frames are known when they are compressed."""
    records = []
    for item in items:
        record = item.record
        frames.write(tar.header(record))
        record = record._replace(offset=frames.position) if record.type == "file" else record
        for piece in item.pieces:
            frames.write(piece)
        frames.write(bytes(tar.padding(record.size)) if record.type == "file" else b"")
        records.append(record)
    return listed(id, records), frames.end_segment()


class BundleWriter:
    """Writes one bundle; to be used as a context manager, so that a failure leaves nothing behind.

    ``jobs`` threads compress. Raises DestinationError when the output can't be written, PackError when it would be
    more than readers take.
    """

    def __init__(self, output: Path, encoder: Encoder, jobs: int) -> None:
        self._output, self._encoder = output, encoder
        self._payload_path = beside(output, "payload")
        self._partial_path = beside(output, "partial")
        self._segments: list[tuple[Listed, list[Frame]]] = []
        self._stored: dict[str, Stored] = {}
        self._pool = threads(jobs, "compress")
        self._ahead = 2 * jobs
        self._folders: list[Path] = []
        self.stored = 0
        self.offsets: dict[str, int] = {}
        """Where in the finished file each segment begins."""

    def __enter__(self) -> BundleWriter:
        try:
            self._folders = make_folders(self._output.parent)
            self._payload = open(self._payload_path, "w+b", buffering=0)
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
        for path in (self._payload_path, self._partial_path):
            path.unlink(missing_ok=True)
        if kind is not None:
            remove_empty(self._folders)
        if isinstance(error, OSError):
            raise _unwritable(self._output, error) from None

    def add_segment(self, id: str, items: Iterable[Item]) -> None:
        """Appends a segment with these paths, in this order."""
        self._segments.append(write_segment(self._frames, id, items))

    def add_stored(self, segment: Listed, stored: Stored) -> None:
        """Appends a segment that was compressed before; its bytes are taken over when the bundle is finished."""
        self._segments.append((segment, list(stored.frames)))
        self._stored[segment.id] = stored

    def finish(self, draft: Manifest) -> Manifest:
        """Completes ``draft`` with what was written (segments, sizes, the longest prefix) and the file with it."""
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
        self._assemble(compress(self._encoder, first)[0] + head, segments)
        return manifest

    def _assemble(self, head: bytes, segments: Sequence[Segment]) -> None:
        """Head and segments one after the other, new ones from the payload, the others from where they lie."""
        with open(self._partial_path, "wb", buffering=0) as output:
            write_all(output.fileno(), head)
            taken = 0
            offset = len(head)
            for segment in segments:
                stored = self._stored.get(segment.id)
                if stored is None:
                    move(self._payload.fileno(), taken, output.fileno(), segment.stored)
                    taken += segment.stored
                else:
                    take = copy if stored.stay else move
                    take(stored.descriptor, stored.offset, output.fileno(), segment.stored)
                self.offsets[segment.id] = offset
                offset += segment.stored
        self.stored = offset
        os.replace(self._partial_path, self._output)

    def segments(self) -> Iterator[tuple[Listed, tuple[Frame, ...]]]:
        """What was written; of use once it is finished."""
        return ((segment, tuple(frames)) for segment, frames in self._segments)


def complete(draft: Manifest, segments: Sequence[Listed]) -> tuple[Manifest, bytes]:
    """``draft`` with what follows from the segments, and the paths table of them."""
    table = join_table(segment.table for segment in segments)
    rooms = ((segment.room, segment.limited_by) for segment in segments if segment.room is not None)
    longest, limited_by = min(rooms, default=(None, ""))
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
        hint="Choose another output, or free some space there.",
    )
