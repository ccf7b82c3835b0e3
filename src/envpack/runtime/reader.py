"""Reading a bundle: the manifest, the paths table, and verified frames.

Nothing is believed before it is verified: a frame's digest is checked before the frame is decompressed, the
manifest against the digest beside it, the paths table against the one in the manifest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Iterator, Mapping, NamedTuple

from envpack.runtime import tar
from envpack.runtime.codec import STANDARD, Decoder, codec_of
from envpack.runtime.document import manifest_from_json, table_from_json
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.limits import MAX_FRAME, MAX_MANIFEST, MAX_TABLE, most_stored
from envpack.runtime.model import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH, Frame, Manifest, PathRecord, PathsTable

END_SEGMENT = "end"
"""Id of the last segment, which holds tar's end-of-archive marker and no paths."""

_HEAD_STEP = 64 << 10


class Located(NamedTuple):
    """A frame, where in the file it begins, and the segment it belongs to."""

    segment: str
    offset: int
    frame: Frame


class Bundle:
    """An open bundle. Use :func:`open_bundle`; safe to read from several threads."""

    def __init__(self, fd: int, name: str, decoders: Mapping[str, Decoder] = STANDARD) -> None:
        self._fd = fd
        self.name = name
        self.size = os.fstat(fd).st_size
        start = self._read(0, 4)
        self.codec = codec_of(start)
        self._decoder = decoders[self.codec]
        self.manifest_bytes, self._manifest_stored = self._read_manifest()
        self.manifest: Manifest = manifest_from_json(self.manifest_bytes)
        self._check_sizes()

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def _read_manifest(self) -> tuple[bytes, int]:
        wanted, most = _HEAD_STEP, most_stored(MAX_MANIFEST)
        first = None
        while first is None:
            data = self._read(0, wanted)
            first = self._decoder.first(data)
            if first is None and len(data) < wanted:
                raise IntegrityError(f"{self.name}: the file ends within its first frame")
            if first is None and wanted == most:
                raise IntegrityError(f"{self.name}: the first frame has more than {most:,} bytes")
            wanted = min(4 * wanted, most)
        unpacked, stored = first
        entries = tar.first_entries(unpacked)
        if [name for name, _ in entries] != [MANIFEST_PATH, DIGEST_PATH]:
            raise FormatError(f"{self.name}: an archive, but not one that envpack made: it has no manifest first")
        manifest, digest = entries[0][1], entries[1][1]
        if digest != digest_line(manifest):
            raise IntegrityError(f"{self.name}: the manifest does not match its digest")
        return manifest, stored

    def _check_sizes(self) -> None:
        manifest = self.manifest
        if manifest.codec != self.codec:
            raise FormatError(f"{self.name}: the manifest speaks of {manifest.codec}, the file is {self.codec}")
        if not manifest.segments or manifest.segments[-1].id != END_SEGMENT:
            raise FormatError(f"{self.name}: the manifest's last segment is not {END_SEGMENT!r}")
        for _, _, frame in self._located():
            if not 0 < frame.size <= MAX_FRAME or not 0 < frame.stored <= most_stored(frame.size):
                raise IntegrityError(
                    f"{self.name}: a frame of {frame.stored:,} bytes, {frame.size:,} unpacked, is impossible"
                )
        table = sum(frame.size for frame in manifest.head)
        if manifest.paths_size > MAX_TABLE or table != _member_size(manifest.paths_size):
            raise IntegrityError(
                f"{self.name}: a paths table of {manifest.paths_size:,} bytes, {table:,} with its tar entry, is "
                "impossible"
            )
        if manifest.size > sum(segment.size for segment in manifest.segments):
            raise IntegrityError(f"{self.name}: its files are larger than all that is in it")
        stated = self._manifest_stored + sum(located.frame.stored for located in self._located())
        if stated != self.size:
            what = "is cut short" if self.size < stated else "has more in it than its manifest states"
            raise IntegrityError(f"{self.name} {what}: {self.size} bytes, of {stated}")

    @property
    def head_size(self) -> int:
        """Bytes of the file before the first segment: manifest and paths table, compressed."""
        return self._manifest_stored + sum(frame.stored for frame in self.manifest.head)

    def _located(self) -> Iterator[Located]:
        offset = self._manifest_stored
        for frame in self.manifest.head:
            yield Located("", offset, frame)
            offset += frame.stored
        for segment in self.manifest.segments:
            for frame in segment.frames:
                yield Located(segment.id, offset, frame)
                offset += frame.stored

    def frames(self) -> Iterator[Located]:
        """The frames of all segments, in the order they stand in the file."""
        return (located for located in self._located() if located.segment)

    def load(self, located: Located) -> bytes:
        """A frame's uncompressed bytes; raises IntegrityError when it is not what the manifest states."""
        frame = located.frame
        data = self._read(located.offset, frame.stored)
        if hashlib.sha256(data).hexdigest() != frame.sha256:
            raise IntegrityError(f"{self.name}: damaged at byte {located.offset} ({frame.stored} bytes)")
        return self._decoder.frame(data, frame.size)

    def table_bytes(self) -> bytes:
        """The paths table as it stands in the bundle, verified."""
        data = b"".join(self.load(located) for located in self._located() if not located.segment)
        size = self.manifest.paths_size
        head = tar.header(PathRecord(PATHS_PATH, "file", size=size))
        table, rest = data[len(head) : len(head) + size], data[len(head) + size :]
        fits = data.startswith(head) and rest == bytes(tar.padding(size))
        if not fits or hashlib.sha256(table).hexdigest() != self.manifest.paths_sha256:
            raise IntegrityError(f"{self.name}: the paths table is not the one the manifest states")
        return table

    def table(self) -> PathsTable:
        """The paths table; raises FormatError or IntegrityError when it is damaged or does not fit."""
        return table_from_json(self.table_bytes())

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _member_size(size: int) -> int:
    return len(tar.header(PathRecord(PATHS_PATH, "file", size=size))) + size + tar.padding(size)


def digest_line(manifest: bytes) -> bytes:
    """The content of ``.envpack/manifest.sha256``, as sha256sum writes it."""
    return f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n".encode()


def open_bundle(path: Path, decoders: Mapping[str, Decoder] = STANDARD) -> Bundle:
    """Opens a bundle and reads its manifest, and nothing else of it.

    Raises FormatError when it is no bundle, IntegrityError when it is damaged or cut short.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint="Give the path of a bundle.") from None
    try:
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind):
            what = "a directory" if stat.S_ISDIR(kind) else "no file"
            raise FormatError(f"{path} is {what}, not a bundle", hint="Give the path of a bundle.")
        return Bundle(fd, str(path), decoders)
    except BaseException:
        os.close(fd)
        raise
