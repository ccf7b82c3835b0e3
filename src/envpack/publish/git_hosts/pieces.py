"""Files as they are uploaded: whole, or for a bundle that is too large, in pieces with a list of them.

A bundle is cut where its segments begin, so that an upgrade reads from few pieces. ``cat`` joins them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

from envpack.publish.base import Upload
from envpack.publish.release import CHECKSUM, checksum_line
from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.io import open_regular
from envpack.runtime.transport.documents import PARTS, Part, SplitBundle

_CHUNK = 1 << 20


class Piece:
    """A file to upload: all of an `Upload`, or a range of it."""

    def __init__(self, name: str, file: Upload, start: int, size: int, sha256: str) -> None:
        """Take the name, the file that it is a part of, the range in bytes, and the digest of that in hex."""
        self.name, self.size, self.sha256 = name, size, sha256
        self._file, self._start, self._told = file, start, 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes. The last ones come only if all have the digest, so a wrong body is never complete.

        Raises:
            IntegrityError: The file was changed.
        """
        digest, held, got = hashlib.sha256(), b"", 0
        for chunk in _read(self._file.content, self._start, self.size):
            if held:
                yield held
                got += len(held)
                self._tell(got)
            held = chunk
            digest.update(chunk)
        if digest.hexdigest() != self.sha256:
            raise _changed(self._file)
        yield held
        self.skip()

    def skip(self) -> None:
        """Report the piece as done, for one that is there already."""
        self._tell(self.size)

    def _tell(self, done: int) -> None:
        if done > self._told:  # not again in a second attempt
            self._file.progress(done - self._told)
            self._told = done


def whole(file: Upload) -> Piece:
    """Return a file as one piece."""
    return Piece(file.name, file, 0, file.size, file.sha256)


def pieces_of(bundle: Upload, limit: int) -> list[Piece]:
    """Return what a bundle is uploaded as: the bundle, or its parts and then the list of them.

    Args:
        bundle: The bundle.
        limit: Bytes that a file can have at most.

    Raises:
        IntegrityError: The bundle is damaged, or does not have its digest.
        FormatError: It is no bundle, and too large for one piece.
    """
    if bundle.size <= limit:
        return [whole(bundle)]
    assert isinstance(bundle.content, Path)
    sizes = cut_sizes(_borders(bundle.content), limit)
    parts, total = [], hashlib.sha256()
    for number, (size, end) in enumerate(zip(sizes, accumulate(sizes), strict=True), 1):
        digest = hashlib.sha256()
        for chunk in _read(bundle.content, end - size, size):
            digest.update(chunk)
            total.update(chunk)
        parts.append(Piece(f"{bundle.name}.{number:03d}", bundle, end - size, size, digest.hexdigest()))
    if total.hexdigest() != bundle.sha256:
        raise _changed(bundle)
    split = SplitBundle(
        bundle.name, bundle.size, bundle.sha256, [Part(part.name, part.size, part.sha256) for part in parts]
    )
    text = json.dumps(split.as_dict(), indent=2) + "\n"
    return [*parts, whole(Upload.of(bundle.name + PARTS, text.encode()))]


def _changed(file: Upload) -> IntegrityError:
    where = file.content if isinstance(file.content, Path) else file.name
    return IntegrityError(f"{where} was changed while it was published", hint="Run the command again.")


def cut_sizes(blocks: Iterable[int], limit: int) -> list[int]:
    """Return the sizes of parts of at most ``limit`` bytes, which begin where blocks begin if that is possible.

    Args:
        blocks: The sizes in bytes of what should stay together: the head and the segments of a bundle.
        limit: The size of a part in bytes at most.
    """
    sizes, current = [], 0
    for block in blocks:
        if current and current + block > limit:
            sizes.append(current)
            current = 0
        whole_parts, current = divmod(current + block, limit)
        sizes += [limit] * whole_parts
    return [*sizes, current] if current else sizes


def _borders(path: Path) -> list[int]:
    from envpack.bundle.codecs import FAST
    from envpack.runtime.reader.bundle import open_bundle

    with open_bundle(path, FAST) as bundle:
        segments = bundle.manifest.segments
        return [bundle.head_size, *(sum(frame.stored for frame in segment.frames) for segment in segments)]


def _read(content: bytes | Path, start: int, size: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content[start : start + size]
        return
    with open(content, "rb", opener=open_regular) as file:
        file.seek(start)
        while size and (chunk := file.read(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk


def proved_checksum(name: str, digests: Mapping[str, str]) -> bytes | None:
    """Return the content of a bundle's ``.sha256``, if it follows from the digests that the server states.

    Args:
        name: The name of a file.
        digests: The digests of files, in hex, by their names.

    Returns:
        The content; None for other files, and where it has to be downloaded.
    """
    bundle = name.removesuffix(CHECKSUM)
    line = checksum_line(digests.get(bundle, ""), bundle).encode()
    return line if hashlib.sha256(line).hexdigest() == digests.get(name) and bundle != name else None


def joined(files: Mapping[str, int]) -> tuple[dict[str, int], set[str]]:
    """Return files as they are seen by others: parts of which there is a list are one bundle.

    Args:
        files: The names of files, and their sizes in bytes.

    Returns:
        The names and sizes, and the names of the bundles that are in parts.
    """
    split = {name.removesuffix(PARTS) for name in files if name.endswith(PARTS)} - files.keys()
    found = dict.fromkeys(split, 0)
    for name, size in files.items():
        bundle, _, end = name.rpartition(".")
        if bundle in split and end.isdecimal():
            found[bundle] += size
        elif name.removesuffix(PARTS) not in split:
            found[name] = size
    return found, split
