"""Putting a bundle together: segments into a payload beside the output, then head and payload into the file.

The head comes first in the file but is known last, so the payload waits in a temporary file of its own; moving
it behind the head is one in-kernel copy. The output appears by a rename, or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FrameWriter, compress, compress_all
from envpack.prefix.large import Piece
from envpack.runtime import tar
from envpack.runtime.document import manifest_to_json, table_to_json
from envpack.runtime.errors import DestinationError
from envpack.runtime.model import (
    DIGEST_PATH,
    MANIFEST_PATH,
    PATHS_PATH,
    Frame,
    Manifest,
    PathRecord,
    PathsTable,
    Segment,
)
from envpack.runtime.place import beside, make_folders, remove_empty
from envpack.runtime.reader import END_SEGMENT, digest_line


@dataclass(frozen=True)
class Item:
    """A path to be stored: its record, still without an offset, and for a file its bytes.

    ``source``: the file that holds just these bytes, where there is one.
    """

    record: PathRecord
    pieces: Sequence[Piece] = ()
    source: str = ""


class BundleWriter:
    """Writes one bundle; to be used as a context manager, so that a failure leaves nothing behind.

    ``jobs`` threads compress. Raises DestinationError when the output can't be written.
    """

    def __init__(self, output: Path, encoder: Encoder, jobs: int) -> None:
        self._output, self._encoder = output, encoder
        self._payload_path = beside(output, "payload")
        self._partial_path = beside(output, "partial")
        self._segments: list[tuple[str, list[Frame]]] = []
        self._records: dict[str, tuple[PathRecord, ...]] = {}
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="compress")
        self._ahead = 2 * jobs
        self._folders: list[Path] = []
        self.stored = 0

    def __enter__(self) -> BundleWriter:
        try:
            self._folders = make_folders(self._output.parent)
            self._payload: BinaryIO = open(self._payload_path, "w+b")
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
        records = []
        frames = self._frames
        for item in items:
            record = item.record
            frames.write(tar.header(record))
            record = replace(record, offset=frames.position) if record.type == "file" else record
            for piece in item.pieces:
                frames.write(piece)
            frames.write(bytes(tar.padding(record.size)) if record.type == "file" else b"")
            records.append(record)
        self._segments.append((id, frames.end_segment()))
        self._records[id] = tuple(records)

    def finish(self, draft: Manifest) -> Manifest:
        """Completes ``draft`` with what was written (segments, sizes, the longest prefix) and the file with it."""
        self._frames.write(tar.END)
        self._segments.append((END_SEGMENT, self._frames.end_segment()))
        self._frames.drain()
        table = table_to_json(PathsTable(self._records))
        head, head_frames = compress_all(self._encoder, _member(PATHS_PATH, table))
        manifest = replace(
            complete(draft, self._records, table),
            codec=self._encoder.name,
            head=head_frames,
            segments=tuple(Segment(id, tuple(frames)) for id, frames in self._segments),
        )
        data = manifest_to_json(manifest)
        first = _member(MANIFEST_PATH, data) + _member(DIGEST_PATH, digest_line(data))
        self._assemble(compress(self._encoder, first)[0] + head)
        return manifest

    def _assemble(self, head: bytes) -> None:
        self._payload.flush()
        with open(self._partial_path, "wb") as output:
            output.write(head)
            output.flush()
            self._payload.seek(0)
            copy_rest(self._payload, output)
        self.stored = self._partial_path.stat().st_size
        os.replace(self._partial_path, self._output)


def complete(draft: Manifest, records: Mapping[str, tuple[PathRecord, ...]], table: bytes) -> Manifest:
    """``draft`` with what follows from the ``records`` by segment, and from the paths ``table`` made of them."""
    longest, limited_by = longest_prefix(records.values())
    return replace(
        draft,
        size=sum(record.size for group in records.values() for record in group if record.type == "file"),
        files=sum(len(group) for group in records.values()),
        paths_size=len(table),
        paths_sha256=sha256(table).hexdigest(),
        packages=tuple(
            replace(
                package,
                files=len(records[package.segment]),
                size=sum(record.size for record in records[package.segment]),
            )
            for package in draft.packages
        ),
        longest_prefix=longest,
        limited_by=limited_by,
    )


def longest_prefix(segments: Iterable[Iterable[PathRecord]]) -> tuple[int | None, str]:
    """Bytes of the longest prefix that fits into every file, and the path that limits it; (None, "") for any."""
    rooms = (
        (record.relocation.room, record.path)
        for records in segments
        for record in records
        if record.relocation is not None and record.relocation.room is not None
    )
    return min(rooms, default=(None, ""))


def copy_rest(source: BinaryIO, target: BinaryIO) -> None:
    """Copies ``source`` from where it stands to its end, inside the kernel where that is possible."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    except (OSError, AttributeError):  # not this kernel, or not between these filesystems
        source.seek(os.lseek(source.fileno(), 0, os.SEEK_CUR))
        shutil.copyfileobj(source, target, 1 << 20)


def _member(path: str, data: bytes) -> bytes:
    return tar.header(PathRecord(path, "file", size=len(data))) + data + bytes(tar.padding(len(data)))


def _unwritable(output: Path, problem: OSError) -> DestinationError:
    return DestinationError(
        f"can't write {output}: {problem.strerror}",
        hint="Choose another output, or free some space there.",
    )
