"""Conversion between the bytes stored in a bundle and those of a deployment, verified by digest."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Iterable, Iterator

from envpack.runtime.errors import IntegrityError
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.relocation.relocation import Relocation, splices
from envpack.runtime.relocation.splice import Splicer, inverse

_JOINED = 1 << 20
"""Bytes of the largest file whose pieces, between the prefixes, are joined into one for a single write."""


def deployed_bytes(
    pieces: Iterable[bytes | memoryview], relocation: Relocation | None, size: int, prefix: bytes, path: str
) -> Iterable[bytes | memoryview]:
    """Return a file's bytes as they are in a deployment at ``prefix``.

    Args:
        pieces: the stored bytes of the file, in order.
        relocation: where they hold the placeholder; None: nowhere, so the pieces are returned unchanged.
        size: the number of stored bytes.
        prefix: the path of the deployment.
        path: the file's path, for messages.

    Raises:
        IntegrityError: while iterating, the bytes are not those that the relocation records.
    """
    if relocation is None:
        return pieces
    spliced = _spliced(pieces, Splicer(splices(relocation, prefix), path))
    return [b"".join(spliced)] if size <= _JOINED else spliced


def stored_pieces(
    pieces: Iterable[bytes | memoryview], relocation: Relocation | None, prefix: bytes | None
) -> Iterable[bytes | memoryview]:
    """Return a file's bytes as a bundle stores them, from its bytes in a deployment; they are not verified.

    Args:
        pieces: the bytes of the file in a deployment, in order.
        relocation: where the stored bytes hold the placeholder; None: nowhere.
        prefix: the prefix that is written in; None: the placeholder is still there.

    Raises:
        IntegrityError: while iterating, the bytes do not have the prefix where it would be.
    """
    if relocation is None or prefix is None:
        return pieces
    return _spliced(pieces, Splicer(inverse(splices(relocation, prefix))))


def _spliced(pieces: Iterable[bytes | memoryview], splicer: Splicer) -> Iterator[bytes]:
    for piece in pieces:
        yield from splicer.feed(bytes(piece))
    yield from splicer.finish()


def stored_bytes(data: bytes, relocation: Relocation | None, sha256: str, prefixes: list[bytes]) -> bytes | None:
    """Return the stored bytes of a file from its bytes in a deployment, verified by digest.

    Args:
        data: the file's bytes, with one of ``prefixes`` written in, or still as stored.
        relocation: where the stored bytes hold the placeholder; None: nowhere.
        sha256: the digest of the stored bytes, in hexadecimal.
        prefixes: the prefixes to try, in order.

    Returns:
        The stored bytes; None when the digest matches for no prefix, so the file is another one.
    """
    for prefix in (None, *(prefixes if relocation is not None else ())):
        try:
            stored = b"".join(stored_pieces([data], relocation, prefix))
        except IntegrityError:
            continue
        if hashlib.sha256(stored).hexdigest() == sha256:
            return stored
    return None


def stored_digest(fd: int, relocation: Relocation | None, size: int, prefix: bytes | None) -> str | None:
    """Return the SHA-256 digest, in hexadecimal, of the stored bytes of an open file in a deployment.

    Args:
        fd: the file's descriptor, at any offset.
        relocation: where the stored bytes hold the placeholder; None: nowhere.
        size: the number of stored bytes.
        prefix: the prefix that is written in; None: the placeholder is still there.

    Returns:
        The digest; None when the file has another size, or not the prefix where it would be.

    Raises:
        OSError: the file can't be read.
    """
    if os.fstat(fd).st_size != deployed_size(relocation, size, prefix):
        return None
    hashed = hashlib.sha256()
    try:
        for piece in stored_pieces(_read(fd), relocation, prefix):
            hashed.update(piece)
    except IntegrityError:
        return None
    return hashed.hexdigest()


def deployed_size(relocation: Relocation | None, size: int, prefix: bytes | None) -> int:
    """Return the size of a file in a deployment, in bytes.

    Args:
        relocation: where its stored bytes hold the placeholder; None: nowhere.
        size: the size of its stored bytes.
        prefix: the path that is written into it; None: the file is as stored.
    """
    return size if relocation is None or prefix is None else size + relocation.growth(prefix)


_PIECE = 256 << 10

_local = threading.local()


def _read(fd: int) -> Iterator[memoryview]:
    """Yield the content of a file in pieces, each valid until the next one is taken.

    They are in one buffer per thread: allocating memory for each file takes more time than reading the file.
    """
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(_PIECE))
    buffer: memoryview = _local.buffer
    position = 0
    while True:
        size = os.preadv(fd, [buffer], position)
        if not size:
            return
        position += size
        yield buffer[:size]


_WORTH_A_THREAD = 256 << 10


@lru_cache(maxsize=None)
def _hashing() -> ThreadPoolExecutor:
    return threads(1, "digest")


def verify_digest(pieces: Iterable[bytes | memoryview], path: str, sha256: str) -> Iterator[bytes | memoryview]:
    """Yield the pieces of a file's stored bytes unchanged, then verify their digest.

    Later verifications rely on that digest.

    Args:
        pieces: the stored bytes, in order.
        path: the file's path, for messages.
        sha256: the digest that the bytes must have, in hexadecimal.

    Raises:
        IntegrityError: after the last piece, the digest is another one.
    """
    hashed = hashlib.sha256()
    yield from hash_pieces(pieces, hashed)
    if hashed.hexdigest() != sha256:
        raise IntegrityError(f"{path!r} does not match its digest in the paths table")


def hash_pieces(pieces: Iterable[bytes | memoryview], hashed: hashlib._Hash) -> Iterator[bytes | memoryview]:
    """Yield pieces unchanged, and add them to a hash: large ones in another thread while the caller uses them."""
    for piece in pieces:
        if len(piece) < _WORTH_A_THREAD:
            hashed.update(piece)
            yield piece
        else:
            meanwhile = _hashing().submit(hashed.update, piece)
            yield piece
            meanwhile.result()
