"""Small bundles made of given files, for tests of the format that need no environment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from envpack.bundle.codecs import encoder_for
from envpack.bundle.model import Item
from envpack.bundle.writer import BundleWriter
from envpack.runtime.format.manifest import Manifest, PathRecord
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.relocation.relocation import Relocation

PLACEHOLDER = ("/placehold" * 26)[:255].encode()


def file(path: str, data: bytes, mode: int = 0o644, relocation: Relocation | None = None) -> Item:
    digest = hashlib.sha256(data).hexdigest()
    return Item(PathRecord(path, "file", mode, len(data), digest, relocation=relocation), [data])


def text(path: str, content: bytes, mode: int = 0o644) -> Item:
    """Return a text file in which every ``@`` is the prefix."""
    parts = content.split(b"@")
    offsets, position = [], 0
    for part in parts[:-1]:
        position += len(part)
        offsets.append(position)
        position += len(PLACEHOLDER)
    relocation = Relocation(PLACEHOLDER, text=tuple(offsets)) if offsets else None
    return file(path, PLACEHOLDER.join(parts), mode, relocation)


def library(path: str) -> Item:
    """Return a binary with a string that starts with the prefix, and another one after it."""
    relocation = Relocation(PLACEHOLDER, strings=((4, 4 + 255 + 4),))
    return file(path, b"\x7fELF" + PLACEHOLDER + b"/lib\0rest\0", relocation=relocation)


def link(path: str, target: str) -> Item:
    return Item(PathRecord(path, "symlink", target=target))


def draft(**fields: object) -> Manifest:
    manifest = Manifest(
        name="synthetic",
        version="1.0",
        subdir=host_subdir(),
        created=1,
        writer="envpack test",
        codec="",
        size=0,
        files=0,
        paths_size=0,
        paths_sha256="",
        head=(),
        segments=(),
    )
    return replace(manifest, **fields)  # type: ignore[arg-type]


def make_bundle(path: Path, segments: Mapping[str, Iterable[Item]], **fields: object) -> Manifest:
    with BundleWriter(path, encoder_for(path.name), jobs=2) as writer:
        for id, items in segments.items():
            writer.add_segment(id, items)
        return writer.finish(draft(**fields))
