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
import marshal
import os
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import envpack
from envpack.bundle.cache.cache_files import (
    BUNDLE,
    LIST,
    TABLE,
    VERSION,
    forget,
    read_json,
    segment_lists,
    shrink,
    size_limit,
    write_cache_file,
)
from envpack.bundle.codecs import Encoder
from envpack.bundle.frames import FRAME_SIZE
from envpack.bundle.model import PackFindings, SegmentIndex, StoredFrames, listed, placed
from envpack.bundle.writer import BundleWriter
from envpack.prefix import Entry, FileNormalizer, Group, PrefixContents
from envpack.runtime.format.changes import Unrelocatable
from envpack.runtime.format.manifest import Frame, PathRecord

RACY = 2_000_000_000
"""Minimum age of a file's last change, in nanoseconds, before its status says anything of its bytes.

A file that changed more recently may change again without a trace. Linux takes times from its clock tick, 1 to 10
ms; network filesystems round to up to 2 s.
"""


class Known(NamedTuple):
    """A segment as an earlier bundle stored it."""

    listed: SegmentIndex
    stored: StoredFrames
    found: PackFindings


class SegmentCache:
    """The cache in ``folder``, for packing one environment with one encoder; a context manager.

    Args:
        folder: Directory of the cache.
        writer: Writer of the bundle that segments are added to.
        encoder: Encoder of the bundle; only segments of the same encoder, level and envpack code are reused.
        contents: The environment that is packed.
        normalizer: FileNormalizer of the environment's files.
    """

    def __init__(
        self,
        folder: Path,
        writer: BundleWriter,
        encoder: Encoder,
        contents: PrefixContents,
        normalizer: FileNormalizer,
    ) -> None:
        self._folder, self._writer, self._normalizer = folder / VERSION, writer, normalizer
        self._kind = _kind(encoder)
        self._started = time.time_ns()
        context = (self._kind, str(contents.prefix), *map(os.fsdecode, contents.spellings))
        self._context = "\0".join(context).encode("utf-8", "surrogateescape")
        name = hashlib.sha256(self._context).hexdigest()[:32]
        self._index_path = self._folder / "prefixes" / f"{name}{LIST}"
        self._index: dict[str, dict[str, str]] = read_json(self._index_path)
        self._bundles: dict[str, _Bundle] | None = None
        self._signatures: dict[str, str] = {}
        self._found: dict[str, PackFindings] = {}
        self._opened = ExitStack()
        self.taken = 0

    def __enter__(self) -> SegmentCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def take_by_status(self, group: Group) -> PackFindings | None:
        """Add the segment of this group from the cache if the status of all its files is unchanged.

        Returns:
            The findings of the time when it was stored, or None where there is no such segment.
        """
        signature = self._signature(group)
        entry = self._index.get(group.id)
        if not signature or entry is None or entry.get("status") != signature:
            return None
        bundle = self._all().get(entry.get("bundle", ""))
        return self._take(bundle.known(group.id, entry.get("content", "")) if bundle is not None else None)

    def has(self, id: str) -> bool:
        """Return whether the cache has any segment of this id: only then is a search by content worth the time."""
        return any(id in bundle.segments for bundle in self._all().values())

    def take_by_content(self, id: str, records: Iterable[PathRecord]) -> PackFindings | None:
        """Add the segment with these records from the cache, and return its findings; None where there is none."""
        content = _content(listed(id, list(placed(records))))
        known = (bundle.known(id, content) for bundle in self._all().values())
        return self._take(next((one for one in known if one is not None), None))

    def note(self, group: Group, found: PackFindings) -> None:
        """Remember the findings of a segment that was written anew, for `keep`."""
        self._found[group.id] = found
        self._signature(group)

    def _take(self, known: Known | None) -> PackFindings | None:
        if known is None:
            return None
        self._writer.add_stored(known.listed, known.stored)
        self._found[known.listed.id] = known.found
        self.taken += 1
        return known.found

    def keep(self, output: Path) -> None:
        """Add the finished bundle at ``output`` to the cache, and remove the oldest bundles beyond the limit."""
        with suppress(OSError):
            self._keep(output)
            shrink(self._folder, size_limit())

    # --- adding and opening bundles ---

    def _keep(self, output: Path) -> None:
        bundles, name = self._folder / "bundles", uuid.uuid4().hex
        bundles.mkdir(parents=True, exist_ok=True)
        self._index_path.parent.mkdir(exist_ok=True)
        place = bundles / f"{name}{BUNDLE}"
        try:
            os.link(output, place)
        except OSError:  # another filesystem: use the output itself, while it exists
            place = output.absolute()
        facts = os.stat(place)
        table, segments, index = bytearray(), {}, {}
        for segment, frames in self._writer.segments():
            content = _content(segment)
            about = self._found.get(segment.id, PackFindings())
            segments[segment.id] = {
                "content": content,
                "offset": self._writer.offsets[segment.id],
                "frames": [[frame.stored, frame.size, frame.sha256] for frame in frames],
                "table": [len(table), len(segment.table)],
                "paths": segment.paths,
                "size": segment.size,
                "room": segment.room,
                "limited_by": segment.limited_by,
                "modified": about.modified,
                "unrelocatable": [[item.path, item.reason, item.matters] for item in about.unrelocatable],
                "unsearched": about.unsearched,
                "needs_activation": about.needs_activation,
            }
            table += segment.table
            if self._signatures.get(segment.id):
                index[segment.id] = {"status": self._signatures[segment.id], "bundle": name, "content": content}
        write_cache_file(bundles / f"{name}{TABLE}", bytes(table))
        document = {
            "kind": self._kind,
            "place": os.fsencode(place).decode("utf-8", "surrogateescape"),
            "status": [facts.st_ino, facts.st_size, facts.st_mtime_ns],
            "segments": segments,
        }
        write_cache_file(bundles / f"{name}{LIST}", json.dumps(document).encode())
        write_cache_file(self._index_path, json.dumps(index).encode())
        here = {(id, segment["content"]) for id, segment in segments.items()}
        for other, bundle in self._all().items():
            if here.issuperset((id, segment["content"]) for id, segment in bundle.segments.items()):
                forget(bundles, other)

    def _all(self) -> dict[str, _Bundle]:
        if self._bundles is None:
            self._bundles = {}
            for path in segment_lists(self._folder):
                document = read_json(path)
                if document.get("kind") == self._kind:
                    with suppress(OSError, KeyError, TypeError, ValueError):
                        self._bundles[path.stem] = _Bundle(path, document, self._opened)
        return self._bundles

    # --- identity of a segment ---

    def _signature(self, group: Group) -> str:
        """Return the digest of the status of the group's files; "" when it says nothing of their bytes."""
        if group.id not in self._signatures:
            self._signatures[group.id] = self._signed(group)
        return self._signatures[group.id]

    def _signed(self, group: Group) -> str:
        inside = {entry.path for entry in group.entries}
        compiled, others = [], []
        for entry in group.entries:
            is_compiled, related = self._normalizer.related(entry)
            compiled.append(is_compiled)
            if related:
                others += [(entry.path, other) for other in related if other.path not in inside]
        looked_at = [*group.entries, *(other for _, other in others)]
        stamps = [one.stamp for one in looked_at if one.type == "file" and one.content is None]
        if not all(stamps) or max((stamp[1] for stamp in stamps), default=0) >= self._started - RACY:
            return ""
        facts = (list(map(_status, looked_at)), compiled, [path for path, _ in others])
        # marshal, as text takes four times as long; version 2: the last one without references
        return hashlib.sha256(self._context + marshal.dumps(facts, 2)).hexdigest()


class _Bundle:
    """An open bundle in the cache.

    Raises:
        OSError: The bundle, or its list or table, can't be opened.
        ValueError: The bundle was changed since it was added.
    """

    def __init__(self, path: Path, document: dict[str, Any], opened: ExitStack) -> None:
        self.segments: dict[str, dict[str, Any]] = document["segments"]
        place = document["place"].encode("utf-8", "surrogateescape")
        self._descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, self._descriptor)
        facts = os.fstat(self._descriptor)
        if [facts.st_ino, facts.st_size, facts.st_mtime_ns] != document["status"]:
            raise ValueError("it was written to")
        self._table = os.open(path.with_suffix(TABLE), os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, self._table)
        os.utime(path)  # bundles in use are removed last

    def known(self, id: str, content: str) -> Known | None:
        """Return the segment of this id if its content has the digest ``content``, else None."""
        segment = self.segments.get(id)
        if segment is None or segment["content"] != content:
            return None
        start, size = segment["table"]
        listed = SegmentIndex(
            id,
            os.pread(self._table, size, start),
            segment["paths"],
            segment["size"],
            segment["room"],
            segment["limited_by"],
        )
        if _content(listed) != content:
            return None
        frames = tuple(Frame(*frame) for frame in segment["frames"])
        found = PackFindings(
            list(segment["modified"]),
            [Unrelocatable(*item) for item in segment["unrelocatable"]],
            list(segment["unsearched"]),
            list(segment["needs_activation"]),
        )
        return Known(listed, StoredFrames(frames, self._descriptor, segment["offset"], stay=True), found)


def _status(entry: Entry) -> tuple[object, ...]:
    """Return everything that decides what is stored of an entry, in types that marshal supports."""
    path, type, mode, size, mtime, target, known, recorded, content, place, stamp = entry
    published = (known.sha256, known.size, known.placeholder, known.file_mode) if known is not None else None
    given = hashlib.sha256(content).digest() if content is not None else None
    return path, type, mode, size, mtime, target, published, recorded, given, place, stamp


def _content(listed: SegmentIndex) -> str:
    return hashlib.sha256(listed.table).hexdigest()


@cache
def _own_code() -> str:
    """Return a digest of the code that decides stored bytes.

    Another version of it may store the same files differently.
    """
    state = hashlib.sha256()
    package = Path(envpack.__file__).parent
    for folder in ("bundle", "prefix", "runtime"):
        for path in _sources(package / folder):
            state.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return state.hexdigest()[:16]


def _sources(folder: Path) -> list[Path]:
    """Return the code and data files anywhere below a directory, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))


def _kind(encoder: Encoder) -> str:
    return f"{encoder.identity} {FRAME_SIZE} {_own_code()}"
