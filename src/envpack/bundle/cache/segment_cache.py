"""The cache of compressed segments, which keeps whole bundles and reads segments out of them.

A finished bundle is hard-linked into the cache, which costs nothing while the bundle exists elsewhere, together
with a list of its segments. A segment is found again in one of two ways:

By the status of its files, without reading any: path, inode, size and times to the nanosecond are unchanged, and
no file was written so shortly before it was read that a later change could have left its times unchanged (git's
rule for racy entries: Documentation/technical/racy-git.txt).

By its part of the paths table, which has the digest of every file, in an environment that was created anew: then
files are read, and not compressed.

The cache never makes a pack fail: what can't be read or written counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path

from envpack.bundle.cache.cache_files import (
    BUNDLE,
    LIST,
    TABLE,
    VERSION,
    forget,
    part_of_cache,
    read_json,
    segment_lists,
    shrink,
    size_limit,
    write_cache_file,
)
from envpack.bundle.cache.kept_bundle import KeptBundle, bundle_document, segment_document
from envpack.bundle.cache.signature import code_identity, content_digest, status_signature
from envpack.bundle.codecs import Encoder
from envpack.bundle.model import PackedSegment, PackFindings, WrittenSegment, segment_index, with_offsets
from envpack.prefix.model import Group, PrefixContents
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.format.manifest import PathRecord


class SegmentCache:
    """The cache in ``folder``, for packing one environment with one encoder; a context manager.

    The segments that it returns can be read until it is closed.

    Args:
        folder: Directory of the cache.
        encoder: Encoder of the bundle; only segments of the same encoder, level and envpack code are reused.
        contents: The environment that is packed.
        normalizer: FileNormalizer of the environment's files.
    """

    def __init__(
        self, folder: Path, encoder: Encoder, contents: PrefixContents, normalizer: FileNormalizer
    ) -> None:
        self._folder, self._normalizer = folder / VERSION, normalizer
        self._kind = code_identity(encoder)
        self._started = time.time_ns()
        context = (self._kind, str(contents.prefix), *map(os.fsdecode, contents.aliases))
        self._context = "\0".join(context).encode("utf-8", "surrogateescape")
        name = hashlib.sha256(self._context).hexdigest()[:32]
        self._index_path = self._folder / "prefixes" / f"{name}{LIST}"
        self._index: dict[str, dict[str, str]] = read_json(self._index_path)
        self._signatures: dict[str, str] = {}
        self._opened = ExitStack()

    def __enter__(self) -> SegmentCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def by_status(self, group: Group) -> PackedSegment | None:
        """Return the segment of this group if the status of all its files is unchanged, else None."""
        signature = self._signature(group)
        entry = self._index.get(group.id)
        if not signature or entry is None or entry.get("status") != signature:
            return None
        bundle = self._bundles.get(entry.get("bundle", ""))
        known = bundle.segment(group.id, entry.get("content", "")) if bundle is not None else None
        return known if known is not None and self._normalizer.holds(known.found.asked) else None

    def has(self, id: str) -> bool:
        """Return whether the cache has any segment of this id: only then is a search by content worth the time."""
        return any(id in bundle.segments for bundle in self._bundles.values())

    def by_content(self, id: str, records: Iterable[PathRecord]) -> PackedSegment | None:
        """Return the segment with this id and these records, or None where there is none."""
        content = content_digest(segment_index(id, list(with_offsets(records))))
        known = (bundle.segment(id, content) for bundle in self._bundles.values())
        return next((segment for segment in known if segment is not None), None)

    def keep(
        self,
        output: Path,
        written: os.stat_result,
        segments: Iterable[WrittenSegment],
        groups: Mapping[str, tuple[Group, PackFindings]],
    ) -> None:
        """Add a finished bundle to the cache, and remove the oldest bundles beyond the limit.

        Args:
            output: Path of the bundle.
            written: Status of the bundle; another file at ``output``, which another process put there, is not
                kept.
            segments: Its segments.
            groups: The groups that they store, and the findings about their files, by id.
        """
        with suppress(OSError):
            self._keep(output, written, segments, groups)
            shrink(self._folder, size_limit())

    def _keep(
        self,
        output: Path,
        written: os.stat_result,
        segments: Iterable[WrittenSegment],
        groups: Mapping[str, tuple[Group, PackFindings]],
    ) -> None:
        bundles, name = part_of_cache(self._folder.parent, "bundles"), uuid.uuid4().hex
        bundles.mkdir(parents=True, exist_ok=True)
        part_of_cache(self._folder.parent, "prefixes").mkdir(exist_ok=True)
        place = bundles / f"{name}{BUNDLE}"
        try:
            os.link(output, place)
        except OSError:  # another filesystem: use the output itself, while it exists
            place = output.absolute()
        if not os.path.samestat(os.stat(place), written):
            forget(bundles, name)
            return
        table, entries, index = bytearray(), {}, {}
        for segment in segments:
            id = segment.listing.id
            group, found = groups.get(id, (None, PackFindings()))
            entries[id] = segment_document(segment, found, len(table))
            table += segment.listing.table
            signature = self._signature(group) if group is not None else ""
            if signature:
                index[id] = {"status": signature, "bundle": name, "content": entries[id]["content"]}
        document = bundle_document(self._kind, place, entries)
        write_cache_file(bundles / f"{name}{TABLE}", bytes(table))
        write_cache_file(bundles / f"{name}{LIST}", json.dumps(document).encode())
        write_cache_file(self._index_path, json.dumps(index).encode())
        here = {(id, entry["content"]) for id, entry in entries.items()}
        for other, bundle in self._bundles.items():
            if here.issuperset((id, entry["content"]) for id, entry in bundle.segments.items()):
                forget(bundles, other)

    @cached_property
    def _bundles(self) -> dict[str, KeptBundle]:
        """Return the bundles in the cache that this code packed, by name, newest first."""
        bundles = {}
        for path in segment_lists(self._folder):
            document = read_json(path)
            if document.get("kind") == self._kind:
                with suppress(OSError, KeyError, TypeError, ValueError):
                    bundles[path.stem] = KeptBundle(path, document, self._opened)
        return bundles

    def _signature(self, group: Group) -> str:
        if group.id not in self._signatures:
            related = self._normalizer.related
            self._signatures[group.id] = status_signature(group, related, self._context, self._started)
        return self._signatures[group.id]
