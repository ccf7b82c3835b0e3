"""Stored bytes and the bytes of a deployment, one from the other, proved by their digest."""

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
"""Bytes of a file whose pieces around its prefixes are written together."""


def with_prefix(
    pieces: Iterable[bytes | memoryview], relocation: Relocation | None, size: int, prefix: bytes
) -> Iterable[bytes | memoryview]:
    """A file's stored bytes, ``size`` of them, as they are at ``prefix``."""
    if relocation is None:
        return pieces
    spliced = _spliced(pieces, Splicer(splices(relocation, prefix)))
    return [b"".join(spliced)] if size <= _JOINED else spliced


def _spliced(pieces: Iterable[bytes | memoryview], splicer: Splicer) -> Iterator[bytes]:
    for piece in pieces:
        yield from splicer.feed(bytes(piece))
    yield from splicer.finish()


def stored_bytes(data: bytes, relocation: Relocation, sha256: str, prefixes: list[bytes]) -> bytes | None:
    """``data`` taken back to the bytes the bundle stores, whichever of ``prefixes`` is in it, or none yet.

    None when the digest shows that it is something else.
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
    """The sha256 of a file from its start, after ``splicer``, whose IntegrityError passes through."""
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
    """The thread's own: memory that is new for each file costs more time than reading it."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(_PIECE))
    view: memoryview = _local.buffer
    return view


class Content:
    """The stored bytes of the file at ``path`` on their way: they must have the digest, the placeholder where
    ``relocation`` says."""

    def __init__(self, path: str, relocation: Relocation | None, sha256: str) -> None:
        self._path, self._sha256, self._hash = path, sha256, hashlib.sha256()
        # the placeholder itself written in: that fits into every file, and changes nothing
        self._splicer = Splicer(splices(relocation, relocation.placeholder)) if relocation is not None else None

    def feed(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        if self._splicer is not None:
            self._spliced(self._splicer.feed, bytes(piece))

    def finish(self) -> None:
        """Raises IntegrityError when it is not that."""
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
    """The stored bytes of the file at ``path``, passed on; after the last of them IntegrityError unless they have
    the digest, which later verifications go by. Large pieces are hashed while the caller has them."""
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
