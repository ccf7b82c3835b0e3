"""An open bundle: its manifest, its paths table, and verified frames.

All data is verified before it is used: the digest of a frame is checked before the frame is decompressed, the
manifest is checked against the digest beside it, and the paths table against the digest in the manifest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from envpack.runtime.errors import EnvpackError, FormatError, IntegrityError
from envpack.runtime.format import tar
from envpack.runtime.format.codec import STANDARD, Decoder, codec_of
from envpack.runtime.format.layout import DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.limits import MAX_FRAME, MAX_MANIFEST, MAX_TABLE, max_stored_size
from envpack.runtime.format.manifest import Frame, Manifest, PathRecord, PathsTable
from envpack.runtime.format.manifest_json import digest_line, manifest_from_json
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.fs.io import GIT_LFS, GIT_LFS_ERROR, GIT_LFS_HINT
from envpack.runtime.transport.base import ByteSource
from envpack.runtime.transport.open import open_source

END_SEGMENT = "end"
"""Id of the last segment, which holds tar's end-of-archive marker and no paths (FORMAT.md, section 1)."""


class Located(NamedTuple):
    """A frame, its offset in the file in bytes, and the id of its segment ("" for the head)."""

    segment: str
    offset: int
    frame: Frame


class Bundle:
    """An open bundle, which owns the `ByteSource` that it reads from; created by :func:`open_bundle`.

    It can be read from several threads. The frames of a stream can be read only once, in the order of the file.
    """

    def __init__(self, source: ByteSource, decoders: Mapping[str, Decoder] = STANDARD) -> None:
        self._source = source
        self.name, self.origin = source.name, source.origin
        self.is_remote, self.is_seekable = source.is_remote, source.is_seekable
        self._start = source.read(0, 4)
        self._start_offset = 0
        if not self._start:
            raise FormatError(f"{self.name} is empty", hint="Check whether the program that writes it has failed.")
        if self._start.lstrip().startswith(b"<"):
            raise _page(self.name, self._start + _more(source))
        if GIT_LFS.startswith(self._start) and (self._start + _more(source)).startswith(GIT_LFS):
            raise FormatError(f"{self.name}: {GIT_LFS_ERROR}", hint=GIT_LFS_HINT)
        self.codec = codec_of(self._start, self.name, source.advice)
        self._decoder = decoders[self.codec]
        self.manifest_bytes, self._manifest_stored = self._read_manifest()
        self.manifest: Manifest = manifest_from_json(self.manifest_bytes)
        self.size = self._manifest_stored + sum(located.frame.stored for located in self._located())
        self._check_sizes()

    def use_mirrors(self, mirrors: Sequence[str], warn: Callable[[str], None]) -> None:
        """Read what follows the head of a bundle on a server from mirrors first, see `MirroredSource`."""
        if mirrors and self.is_remote:
            from envpack.runtime.transport.mirrors import MirroredSource

            self._source = MirroredSource(self._source, mirrors, warn)

    def _read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``, of which the first may have been read with the manifest.

        Raises IntegrityError when the file ends before.
        """
        known = self._start[offset - self._start_offset :][:size] if offset >= self._start_offset else b""
        rest = size - len(known)
        data = known + self._source.read(offset + len(known), rest) if rest else known
        if len(data) < size:
            raise IntegrityError(f"{self.name} is truncated: {offset + len(data)} bytes of {self.size}")
        return data

    def _read_manifest(self) -> tuple[bytes, int]:
        wanted, most = max(len(self._start), self._source.at_hand), max_stored_size(MAX_MANIFEST)
        first = None
        data = self._start
        while first is None:
            data += self._source.read(len(data), wanted - len(data))
            first = self._decoder.first(data)
            if first is None and len(data) < wanted:
                raise IntegrityError(f"{self.name}: the file ends within its first frame")
            if first is None and wanted >= most:
                raise IntegrityError(f"{self.name}: the first frame has more than {most:,} bytes")
            wanted = min(4 * wanted, most)
        unpacked, stored = first
        entries = tar.first_entries(unpacked)
        if [name for name, _ in entries] != [MANIFEST_PATH, DIGEST_PATH]:
            raise FormatError(
                f"{self.name}: an archive, but not a bundle: it does not begin with a manifest",
                hint=self._source.advice,
            )
        manifest, digest = entries[0][1], entries[1][1]
        if digest != digest_line(manifest):
            raise IntegrityError(f"{self.name}: the manifest does not match its digest")
        self._start, self._start_offset = data[stored:], stored
        return manifest, stored

    def _check_sizes(self) -> None:
        manifest = self.manifest
        if manifest.codec != self.codec:
            raise FormatError(f"{self.name}: the manifest states {manifest.codec}, but the file is {self.codec}")
        if not manifest.segments or manifest.segments[-1].id != END_SEGMENT:
            raise FormatError(f"{self.name}: the manifest's last segment is not {END_SEGMENT!r}")
        for _, _, frame in self._located():
            if not 0 < frame.size <= MAX_FRAME or not 0 < frame.stored <= max_stored_size(frame.size):
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
            raise IntegrityError(f"{self.name}: its files are larger than its frames")
        found = self._source.size
        if found is not None and found != self.size:
            what = "is truncated" if found < self.size else "is longer than its manifest states"
            raise IntegrityError(f"{self.name} {what}: {found} bytes instead of {self.size}")

    @property
    def head_size(self) -> int:
        """Bytes of the file before the first segment: the compressed manifest and paths table."""
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
        """Iterate over the frames of all segments, in the order of the file."""
        return (located for located in self._located() if located.segment)

    def prefetch(self, frames: Iterable[Located]) -> None:
        """Announce the frames that will be read next, in this order, so that they can be fetched ahead."""
        known = self._start_offset + len(self._start)
        parts = ((max(known, each.offset), each.offset + each.frame.stored) for each in frames)
        self._source.prefetch([(start, end - start) for start, end in parts if start < end])

    def stored(self, located: Located) -> bytes:
        """Return the compressed bytes of a frame, not verified yet: `unpack` verifies them.

        Raises:
            IntegrityError: the file ends within the frame.
        """
        return self._read(located.offset, located.frame.stored)

    def unpack(self, located: Located, data: bytes) -> bytes:
        """Verify the compressed bytes of a frame and return its uncompressed bytes.

        Args:
            located: the frame.
            data: its compressed bytes, as `stored` returns them.

        Raises:
            IntegrityError: the frame has not the digest or the size that the manifest states.
        """
        frame = located.frame
        if hashlib.sha256(data).hexdigest() != frame.sha256:
            data = self._source.read_again(located.offset, frame.stored) or b""
        if not data or hashlib.sha256(data).hexdigest() != frame.sha256:
            raise IntegrityError(f"{self.name}: damaged at byte {located.offset} ({frame.stored} bytes)")
        return self._decoder.frame(data, frame.size)

    def load(self, located: Located) -> bytes:
        """Read and verify a frame, and return its uncompressed bytes.

        Raises:
            IntegrityError: the file ends within the frame, or the frame is not what the manifest states.
        """
        return self.unpack(located, self.stored(located))

    def finish(self) -> None:
        """Check that a stream ends with the last frame; for a file, its size was checked when it was opened.

        Raises:
            IntegrityError: there is more data after the last frame.
        """
        if self._source.size is None and (
            self._start[self.size - self._start_offset :] or self._source.read(self.size, 1)
        ):
            raise IntegrityError(f"{self.name} is longer than its manifest states")

    def table_bytes(self) -> bytes:
        """Return the verified bytes of the paths table's JSON.

        Raises:
            IntegrityError: the table is not the one that the manifest states.
        """
        head = [located for located in self._located() if not located.segment]
        self.prefetch(head)
        data = b"".join(map(self.load, head))
        size = self.manifest.paths_size
        header = tar.header(PathRecord(PATHS_PATH, "file", size=size))
        table, rest = data[len(header) : len(header) + size], data[len(header) + size :]
        fits = data.startswith(header) and rest == bytes(tar.padding(size))
        if not fits or hashlib.sha256(table).hexdigest() != self.manifest.paths_sha256:
            raise IntegrityError(f"{self.name}: the paths table does not match its digest in the manifest")
        return table

    def table(self) -> PathsTable:
        """Return the paths table.

        Raises:
            FormatError: an entry of the table is wrong.
            IntegrityError: the table is damaged, unsafe or beyond the limits, or not the one that the manifest
                states.
        """
        return table_from_json(self.table_bytes())

    def cancel(self) -> None:
        """Let every read that waits in another thread, and every later one, fail: see `ByteSource.cancel`."""
        self._source.cancel()

    def close(self) -> None:
        """Close the file or connection that the bundle is read from."""
        self._source.close()

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


def open_bundle(where: Path | str, decoders: Mapping[str, Decoder] = STANDARD) -> Bundle:
    """Open a bundle and read its manifest only.

    Args:
        where: path or URL of the bundle, or "-" for standard input, see `open_source`.
        decoders: the decoders to use, by codec.

    Raises:
        FormatError: it is no bundle, or this Python can't read its codec.
        IntegrityError: the bundle is damaged or cut short.
        FetchError, UsageError: as `open_source` raises them.
    """
    source = open_source(where)
    try:
        return Bundle(source, decoders)
    except BaseException:
        source.close()
        raise


def _page(name: str, start: bytes) -> FormatError:
    tag = start.decode("utf-8", "replace").strip().partition(">")[0].split("\n")[0]
    return FormatError(
        f"{name}: not a bundle: it begins with '{tag}>', so a server sent a web page instead",
        hint="Check the URL. Use 'curl -f', which fails where a server reports an error, or give envpack the URL.",
    )


def _more(source: ByteSource) -> bytes:
    """Return the next bytes after the first four, for an error message; b"" where there are none."""
    try:
        return source.read(4, 28)
    except (EnvpackError, OSError):
        return b""
