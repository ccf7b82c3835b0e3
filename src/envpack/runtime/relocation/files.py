"""Conversion between the bytes stored in a bundle and those of a deployment, verified by digest."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Callable, Iterable, Iterator

from envpack.runtime.errors import IntegrityError
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.relocation.relocation import Relocation, splices
from envpack.runtime.relocation.splice import Splicer, inverse, splice

_JOINED = 1 << 20
"""Bytes of the largest file whose pieces, between the prefixes, are joined into one for a single write."""


def with_prefix(
    pieces: Iterable[bytes | memoryview], relocation: Relocation | None, size: int, prefix: bytes
) -> Iterable[bytes | memoryview]:
    """Return a file's bytes as they are in a deployment at ``prefix``.

    Args:
        pieces: the stored bytes of the file, in order.
        relocation: where they hold the placeholder; None: nowhere, so the pieces are returned unchanged.
        size: the number of stored bytes.
        prefix: the path of the deployment.

    Raises:
        IntegrityError: while iterating, the bytes are not those that the relocation records.
    """
    if relocation is None:
        return pieces
    spliced = _spliced(pieces, Splicer(splices(relocation, prefix)))
    return [b"".join(spliced)] if size <= _JOINED else spliced


def _spliced(pieces: Iterable[bytes | memoryview], splicer: Splicer) -> Iterator[bytes]:
    for piece in pieces:
        yield from splicer.feed(bytes(piece))
    yield from splicer.finish()


def stored_bytes(data: bytes, relocation: Relocation, sha256: str, prefixes: list[bytes]) -> bytes | None:
    """Return the stored bytes of a file from its bytes in a deployment, verified by digest.

    Args:
        data: the file's bytes, with one of ``prefixes`` written in, or still as stored.
        relocation: where the stored bytes hold the placeholder.
        sha256: the digest of the stored bytes, in hexadecimal.
        prefixes: the prefixes to try, in order.

    Returns:
        The stored bytes; None when the digest matches for no prefix, so the file is another one.
    """
    if hashlib.sha256(data).hexdigest() == sha256:
        return data
    for prefix in prefixes:
        try:
            stored = splice(data, inverse(splices(relocation, prefix)))
        except IntegrityError:
            continue
        if hashlib.sha256(stored).hexdigest() == sha256:
            return stored
    return None


_PIECE = 256 << 10


def digest_of(fd: int, splicer: Splicer | None = None) -> str:
    """Return the SHA-256 digest, in hexadecimal, of a whole file.

    ``fd`` may be at any offset. With ``splicer`` the digest is that of its output for the file.

    Raises:
        IntegrityError: the splicer does not fit the file.
        OSError: the file can't be read.
    """
    hashed = hashlib.sha256()
    buffer = _buffer()
    position = 0
    while True:
        size = os.preadv(fd, [buffer], position)
        if not size:
            break
        position += size
        if splicer is None:
            hashed.update(buffer[:size])
        else:
            for piece in splicer.feed(bytes(buffer[:size])):
                hashed.update(piece)
    if splicer is not None:
        for piece in splicer.finish():
            hashed.update(piece)
    return hashed.hexdigest()


_local = threading.local()


def _buffer() -> memoryview:
    """Return this thread's read buffer: allocating memory for each file takes more time than reading the file."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(_PIECE))
    view: memoryview = _local.buffer
    return view


class Content:
    """A check of one file's stored bytes as they stream through: their digest and their placeholders.

    Args:
        path: the file's path, for messages.
        relocation: where the bytes must hold the placeholder; None: not checked.
        sha256: the digest that the bytes must have, in hexadecimal.

    Raises:
        IntegrityError: from `feed` or `finish`, the bytes are not those that the relocation records.
    """

    def __init__(self, path: str, relocation: Relocation | None, sha256: str) -> None:
        self._path, self._sha256, self._hash = path, sha256, hashlib.sha256()
        # the placeholder is replaced by itself, which fits every file and changes nothing
        self._splicer = Splicer(splices(relocation, relocation.placeholder)) if relocation is not None else None

    def feed(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        if self._splicer is not None:
            self._spliced(self._splicer.feed, bytes(piece))

    def finish(self) -> None:
        """Complete the check.

        Raises:
            IntegrityError: the digest is another one, or the placeholder is missing where it must be.
        """
        if self._splicer is not None:
            self._spliced(self._splicer.finish)
        if self._hash.hexdigest() != self._sha256:
            raise IntegrityError(f"{self._path!r} has not the digest that the paths table gives")

    def _spliced(self, action: Callable[..., object], *arguments: bytes) -> None:
        try:
            action(*arguments)
        except IntegrityError as error:
            raise IntegrityError(f"{self._path!r}: {error.message}") from None


_WORTH_A_THREAD = 256 << 10


@lru_cache(maxsize=None)
def _hashing() -> ThreadPoolExecutor:
    return threads(1, "digest")


def proved(pieces: Iterable[bytes | memoryview], path: str, sha256: str) -> Iterator[bytes | memoryview]:
    """Yield the pieces of a file's stored bytes unchanged, then verify their digest.

    Later verifications rely on that digest. Large pieces are hashed in another thread while the caller uses them.

    Args:
        pieces: the stored bytes, in order.
        path: the file's path, for messages.
        sha256: the digest that the bytes must have, in hexadecimal.

    Raises:
        IntegrityError: after the last piece, the digest is another one.
    """
    hashed = hashlib.sha256()
    for piece in pieces:
        if len(piece) < _WORTH_A_THREAD:
            hashed.update(piece)
            yield piece
        else:
            meanwhile = _hashing().submit(hashed.update, piece)
            yield piece
            meanwhile.result()
    if hashed.hexdigest() != sha256:
        raise IntegrityError(f"{path!r} has not the digest that the paths table gives")
