"""One file as a bundle stores it, and as it is deployed, with no environment around it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from envpack.prefix.model import Entry, PrefixContents, Stored
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.prefix.scan.windowed_file import in_memory
from envpack.runtime.relocation.relocation import splices
from envpack.runtime.relocation.splice import inverse, splice


def normalizer(*aliases: bytes) -> FileNormalizer:
    """Return the normalizer of an environment with these paths."""
    return FileNormalizer(Path("/nowhere"), PrefixContents(Path("/nowhere"), aliases, ()))


def store(data: bytes, *aliases: bytes, path: str = "lib/x", mode: int = 0o644, **fields: Any) -> Stored:
    return normalizer(*aliases).normalize(Entry(path, "file", mode, len(data), **fields), data)


def deployed(stored: Stored, prefix: bytes) -> bytes:
    """Return the bytes at ``prefix``, after checking that they give the stored bytes and digest again."""
    data = b"".join(in_memory(stored.pieces))
    assert (len(data), hashlib.sha256(data).hexdigest()) == (stored.size, stored.sha256)
    if stored.relocation is None:
        return data
    forward = splices(stored.relocation, prefix)
    result = splice(data, forward)
    assert splice(result, inverse(forward)) == data
    return result
