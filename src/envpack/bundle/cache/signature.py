"""Identity of a segment and of the code that packs it: a segment is reused only where both are the same."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import envpack
from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FRAME_SIZE
from envpack.bundle.model import SegmentIndex
from envpack.prefix.model import Entry, Group

RACY = 2_000_000_000
"""Minimum age of a file's last change, in nanoseconds, before its status says anything of its bytes.

A file that changed more recently may change again without a trace. Linux takes times from its clock tick, 1 to 10
ms; network filesystems round to up to 2 s.
"""

Related = Callable[[Entry], tuple[bool, tuple[Entry, ...]]]
"""Returns what else decides on the stored bytes of a file: see `FileNormalizer.related`."""


def status_signature(group: Group, related: Related, context: bytes, started: int) -> str:
    """Return the digest of the status of a group's files; "" when it says nothing of their bytes.

    Args:
        group: The group.
        related: Returns what else decides on the stored bytes of a file.
        context: Everything else that decides on the stored bytes.
        started: Time before any file was read, in nanoseconds since 1970.
    """
    inside = {entry.path for entry in group.entries}
    compiled, others = [], []
    for entry in group.entries:
        is_compiled, files = related(entry)
        compiled.append(is_compiled)
        if files:
            others += [(entry.path, other) for other in files if other.path not in inside]
    looked_at = [*group.entries, *(other for _, other in others)]
    stamps = [one.stamp for one in looked_at if one.type == "file" and one.content is None]
    if not all(stamps) or max((stamp[1] for stamp in stamps), default=0) >= started - RACY:
        return ""
    facts = (list(map(_status, looked_at)), compiled, [path for path, _ in others])
    # marshal, as text takes four times as long; version 2: the last one without references
    return hashlib.sha256(context + marshal.dumps(facts, 2)).hexdigest()


def _status(entry: Entry) -> tuple[object, ...]:
    """Return everything that decides what is stored of an entry, in types that marshal supports."""
    path, type, mode, size, mtime, target, known, recorded, content, place, stamp = entry
    published = (known.sha256, known.size, known.placeholder, known.file_mode) if known is not None else None
    given = hashlib.sha256(content).digest() if content is not None else None
    return path, type, mode, size, mtime, target, published, recorded, given, place, stamp


def content_digest(index: SegmentIndex) -> str:
    """Return the digest of a segment's part of the paths table, which has the digest of each of its files."""
    return hashlib.sha256(index.table).hexdigest()


def code_identity(encoder: Encoder) -> str:
    """Return a text that two packs share if they store the same files as the same bytes."""
    return f"{encoder.identity} {FRAME_SIZE} {_own_code()}"


@cache
def _own_code() -> str:
    """Return a digest of the code that decides stored bytes.

    Another version of it may store the same files differently.
    """
    state = hashlib.sha256()
    package = Path(envpack.__file__).parent
    for folder in ("bundle", "prefix", "runtime"):
        for path in code_files(package / folder):
            state.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return state.hexdigest()[:16]


def code_files(folder: Path) -> list[Path]:
    """Return the code and data files anywhere below a directory, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
