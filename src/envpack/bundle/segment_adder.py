"""Adding of segments to a bundle or to another target: ready ones where there are any, the others packed now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from envpack.bundle.cache.segment_cache import SegmentCache
from envpack.bundle.codecs import Encoder
from envpack.bundle.model import Item, PackedSegment, PackFindings
from envpack.bundle.parallel_pack import ParallelPacker
from envpack.bundle.segment_items import segment_items
from envpack.bundle.writer import BundleWriter
from envpack.prefix.model import Group, PrefixContents
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.parallel.processes import Advance


class Sink(Protocol):
    """A target that an environment is written to: a bundle, or a directory.

    Attributes:
        stored: Bytes of the target once it is finished.
    """

    stored: int

    def add_segment(self, id: str, items: Iterable[Item]) -> None: ...

    def finish(self, draft: Manifest) -> Manifest: ...


class SegmentAdder:
    """Adds the segments of an environment to any target, each packed by this process.

    Args:
        contents: The environment.
        normalizer: FileNormalizer of its files.
        sink: The target.

    Attributes:
        reused: Number of segments taken from a cache so far.
    """

    def __init__(self, contents: PrefixContents, normalizer: FileNormalizer, sink: Sink) -> None:
        self._prefix, self._normalizer, self._sink = contents.prefix, normalizer, sink
        self.reused = 0

    def workers(self, groups: Sequence[Group]) -> AbstractContextManager[None]:
        """Start worker processes that pack these groups, where that saves time; they end with the context."""
        return nullcontext()

    def add(self, group: Group, advance: Advance) -> PackFindings:
        """Add the segment of a group.

        Args:
            group: The group.
            advance: Receives the bytes of files that are packed or found in the cache meanwhile.

        Returns:
            The findings about its files.

        Raises:
            PackError: A file can't be read.
        """
        found = PackFindings()
        self._sink.add_segment(group.id, self._items(group, found, advance))
        return found

    def _items(self, group: Group, found: PackFindings, advance: Advance) -> Iterator[Item]:
        return segment_items(group, self._prefix, self._normalizer, found, advance)


class BundleSegmentAdder(SegmentAdder):
    """Adds the segments of an environment to a bundle, from worker processes and from the cache where possible.

    Args:
        contents: The environment.
        normalizer: FileNormalizer of its files.
        writer: Writer of the bundle.
        encoder: Compressor of the frames.
        cache: Segment cache; None: no cache.
        folder: Directory on a disk with space for the temporary files of worker processes.
        jobs: Number of worker processes.
    """

    def __init__(
        self,
        contents: PrefixContents,
        normalizer: FileNormalizer,
        writer: BundleWriter,
        encoder: Encoder,
        cache: SegmentCache | None,
        folder: Path,
        jobs: int,
    ) -> None:
        super().__init__(contents, normalizer, writer)
        self._writer, self._encoder, self._cache = writer, encoder, cache
        self._folder, self._jobs = folder, jobs
        self._added: dict[str, tuple[Group, PackFindings]] = {}

    @contextmanager
    def workers(self, groups: Sequence[Group]) -> Iterator[None]:
        """Start worker processes that pack the groups that the cache has no segment for."""
        new = [group for group in groups if self._cache is None or not self._cache.has(group.id)]
        packer = ParallelPacker(new, self._prefix, self._normalizer, self._encoder, self._folder, self._jobs)
        with packer as self._packer:
            yield

    def add(self, group: Group, advance: Advance) -> PackFindings:
        """Add the segment of a group: a ready one, or else one that is packed now."""
        ready = self._ready(group, advance)
        if ready is not None:
            self._writer.add_stored(ready.listing, ready.stored)
        found = ready.found if ready is not None else super().add(group, advance)
        self._added[group.id] = group, found
        return found

    def _ready(self, group: Group, advance: Advance) -> PackedSegment | None:
        """Return the segment of a group if it is packed already.

        It comes from a worker process, or from the cache: known by the status of its files, or, after these are
        read, by its content.
        """
        packed = self._packer.take(group.id, advance)
        if packed is not None or self._cache is None:
            return packed
        known = self._cache.by_status(group)
        if known is None and self._cache.has(group.id):
            found = PackFindings()
            records = (item.record for item in self._items(group, found, lambda _: None))
            known = self._cache.by_content(group.id, records)
            known = known._replace(found=found) if known is not None else None
        if known is not None:
            self.reused += 1
            advance(sum(entry.size for entry in group.entries))
        return known

    def keep(self, output: Path) -> None:
        """Add the finished bundle at ``output`` to the cache."""
        if self._cache is not None and self._writer.written is not None:
            self._cache.keep(output, self._writer.written, self._writer.segments(), self._added)
