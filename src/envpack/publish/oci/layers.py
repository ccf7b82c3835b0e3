"""The parts of a bundle that become the layers of an image, with the digests of their bytes and their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envpack.bundle.codecs import FAST
from envpack.publish.base import ignore
from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.io import open_regular
from envpack.runtime.reader.bundle import Bundle, Located

HEAD = "head"
"""The title of the layer with the manifest and the paths table."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """A part of a bundle: its head, or a segment.

    Attributes:
        title: The id of the segment.
        offset: Where it begins in the file, in bytes.
        size: Its size in bytes.
        frames: Its frames.
    """

    title: str
    offset: int
    size: int
    frames: tuple[Located, ...]


@dataclass(frozen=True)
class Blob:
    """Bytes to upload: a region of a file, or bytes in memory.

    Attributes:
        digest: Their digest, with ``sha256:``.
        size: Their size in bytes.
        content: The bytes, or the path of the file.
        offset: Where they begin in the file.
        progress: Called with the number of bytes of each piece that was sent.
    """

    digest: str
    size: int
    content: bytes | Path
    offset: int = 0
    progress: Callable[[int], None] = ignore

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Return the blob of some bytes."""
        return cls(digest_of([data]), len(data), data)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end``.

        Raises:
            IntegrityError: Before the last of them, where all of the blob is read and has another digest.
        """
        if isinstance(self.content, bytes):
            yield self.content[start:end]
            return
        digest, whole = hashlib.sha256(), (start, end) == (0, self.size)
        with open(self.content, "rb", opener=open_regular) as file:
            file.seek(self.offset + start)
            while start < end:
                data = file.read(min(_CHUNK, end - start))
                start += len(data)
                if whole:
                    digest.update(data)
                if not data or (whole and start == end and f"sha256:{digest.hexdigest()}" != self.digest):
                    raise IntegrityError(
                        f"{self.content} was changed while it was published", hint="Run the command again."
                    )
                yield data


def digest_of(pieces: Iterable[bytes]) -> str:
    """Return the digest of bytes in pieces, as registries write it."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def parts_of(bundle: Bundle) -> list[Part]:
    """Return the parts of a bundle, in order: joined, they are the bundle."""
    segments: dict[str, list[Located]] = {}
    for frame in bundle.frames():
        segments.setdefault(frame.segment, []).append(frame)
    parts = [Part(HEAD, 0, bundle.head_size, ())]
    for id, frames in segments.items():
        parts.append(Part(id, frames[0].offset, sum(each.frame.stored for each in frames), tuple(frames)))
    return parts


def digests(bundle: Bundle, part: Part, path: Path) -> tuple[str, str]:
    """Return the digest of a part, and that of its uncompressed content (``diff_id``).

    Args:
        bundle: The open bundle, which verifies each frame.
        part: The part.
        path: The path of the bundle.

    Raises:
        IntegrityError: The bundle is damaged, or was changed.
    """
    if part.title == HEAD:
        return _head_digests(bundle, path)
    stored, content = hashlib.sha256(), hashlib.sha256()
    for frame in part.frames:
        data = bundle.stored(frame)
        content.update(bundle.unpack(frame, data))
        stored.update(data)
    return f"sha256:{stored.hexdigest()}", f"sha256:{content.hexdigest()}"


def _head_digests(bundle: Bundle, path: Path) -> tuple[str, str]:
    with open(path, "rb", opener=open_regular) as file:
        data = file.read(bundle.head_size)
    decoder = FAST[bundle.codec]
    stored = bundle.head_size - sum(frame.stored for frame in bundle.manifest.head)
    first = decoder.first(data[:stored])
    if first is None or first[1] != stored:
        raise IntegrityError(
            f"{os.fspath(path)} was changed while it was published", hint="Run the command again."
        )
    content = [first[0]]
    for frame in bundle.manifest.head:
        content.append(bundle.unpack(Located("", stored, frame), data[stored : stored + frame.stored]))
        stored += frame.stored
    return digest_of([data]), digest_of(content)
