"""Packing of own files onto a bundle: its segments are copied as they are, and no environment is needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from envpack.bundle.codecs import FAST, Encoder, encoder_for
from envpack.bundle.model import PackFindings, StoredFrames, segment_index
from envpack.bundle.pack import PackSettings, changing, check_names
from envpack.bundle.segment_items import segment_items
from envpack.bundle.writer import BundleWriter
from envpack.prefix.magics import ELF
from envpack.prefix.model import Entry, Group, Stored
from envpack.prefix.own.place import check_collisions, with_import_path
from envpack.prefix.own.read import OwnRules, read_own_files
from envpack.prefix.relocate.occurrences import digest
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.errors import IntegrityError, PackError, UsageError
from envpack.runtime.format.changes import Changes
from envpack.runtime.format.codec import CODECS
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.format.manifest_json import manifest_to_json
from envpack.runtime.format.tree_rules import check_bundle_tree
from envpack.runtime.fs.io import open_regular
from envpack.runtime.parallel.threads import pool, processors
from envpack.runtime.reader.bundle import END_SEGMENT, Bundle, Located, open_bundle
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.version import __version__


def pack_on_base(base: Path, output: Path, *, settings: PackSettings, reporter: Reporter) -> Manifest:
    """Write a bundle with the segments of another one and own files, which replace those of the same segment.

    The bytes of the segments are verified, and copied without unpacking them. Except for the version of envpack,
    the result is the bundle that packing the environment with these own files gives.

    Args:
        base: Path of the bundle.
        output: Path of the new bundle, which may be the same.
        settings: The own files, and how to pack them. Name, version and time are those of the base where they are
            not given.
        reporter: Receives progress.

    Returns:
        The manifest of the new bundle.

    Raises:
        FormatError, IntegrityError: The base is no bundle, or damaged.
        PackError: The own files can't be packed, or are compiled programs, whose needs only an environment shows,
            or a newer version made the base.
        DestinationError: The output can't be written.
        UsageError: The suffix of the output is not that of the base's codec.
    """
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(base, FAST))
        descriptor = open_regular(os.fspath(base))
        stack.callback(os.close, descriptor)
        encoder = _encoder(bundle, output, settings.level)
        _check_known(bundle)
        table = bundle.table()
        check_bundle_tree(bundle.manifest, table)
        rules = OwnRules(settings.selection.keep_own, settings.outside, (output, base), settings.created)
        groups = _placed(read_own_files(settings.own, rules, reporter), bundle.manifest, table)
        check_names(tuple(groups.values()), rules.seen)
        jobs = settings.jobs or processors()
        writer = stack.enter_context(BundleWriter(output, encoder, jobs))
        with reporter.step("Reading the base", bundle.size) as step:
            kept = [each for each in bundle.frames() if each.segment not in groups]
            with pool(jobs, "verify") as threads:
                for size in threads.map(lambda each: _verified(bundle, descriptor, each), kept):
                    step.advance(size)
            step.detail = f"{len(bundle.manifest.segments) - 1} parts"
        with reporter.step("Packing") as step:
            found = _add(bundle, descriptor, table, groups, writer)
            if found.changing:
                raise changing(found.changing)
            manifest = writer.finish(_draft(bundle.manifest, table, groups, settings, rules.seen))
            step.detail = f"{human_size(manifest.size)} in {manifest.files} files to {human_size(writer.stored)}"
    return manifest


def _check_known(bundle: Bundle) -> None:
    """Raise PackError for a manifest with more keys than this version writes: they would be lost."""
    known = json.loads(manifest_to_json(bundle.manifest))
    unknown = sorted(json.loads(bundle.manifest_bytes).keys() - known.keys())
    if unknown:
        lost = ", ".join(unknown)
        raise PackError(
            f"{bundle.name} was made by a newer version ({bundle.manifest.writer}), and {lost} would be lost",
            hint="Update envpack: pip install --upgrade conda-envpack",
        )


def _encoder(bundle: Bundle, output: Path, level: int | None) -> Encoder:
    encoder = encoder_for(output.name, level)
    if encoder.name != bundle.codec:
        suffix = next(codec.suffixes[0] for codec in CODECS if codec.name == bundle.codec)
        raise UsageError(
            f"{output} has not the format of the base, whose bytes are copied", hint=f"Name it *{suffix}."
        )
    return encoder


def _placed(groups: Sequence[Group], manifest: Manifest, table: PathsTable) -> dict[str, Group]:
    """Return the groups of own files by id, those of applications with their .pth file."""
    ids = {group.id for group in groups}
    known = [
        (id, record.path, record.type)
        for id, records in table.segments.items()
        if id not in ids
        for record in records
    ]
    added = with_import_path(groups, manifest.python, [path for _, path, _ in known])
    check_collisions(known, added)
    return {group.id: group for group in added}


def _verified(bundle: Bundle, descriptor: int, located: Located) -> int:
    """Return the stored bytes of a frame, whose digest is verified."""
    frame = located.frame
    data = os.pread(descriptor, frame.stored, located.offset)
    if hashlib.sha256(data).hexdigest() != frame.sha256:
        raise IntegrityError(f"{bundle.name}: damaged at byte {located.offset} ({frame.stored} bytes)")
    return frame.stored


class _AsItIs:
    """Stores every file unchanged: there is no environment whose path it may have."""

    def names_prefix(self, path: str) -> bool:
        return False

    def normalize(self, entry: Entry, data: FileData) -> Stored:
        data = data if entry.content is None else entry.content
        if data[:4] == ELF:
            raise PackError(
                f"{entry.path} is a compiled program or library: what it needs of a host is not known without the "
                "environment",
                hint="Pack the environment itself: envpack pack -p DIR --app DIR.",
            )
        return Stored([data], len(data), digest([data]))


def _add(
    bundle: Bundle, descriptor: int, table: PathsTable, groups: dict[str, Group], writer: BundleWriter
) -> PackFindings:
    """Add the segments of the base, with own files in the place of those that they replace."""
    found = PackFindings()
    offset, waiting = bundle.head_size, dict(groups)

    def add_own(group: Group) -> None:
        writer.add_segment(group.id, segment_items(group, Path("/"), _AsItIs(), found, lambda _: None))

    for segment in bundle.manifest.segments:
        if segment.id in waiting:
            add_own(waiting.pop(segment.id))
        elif segment.id != END_SEGMENT:
            stored = StoredFrames(segment.frames, descriptor, offset, stay=True)
            writer.add_stored(segment_index(segment.id, table.segments.get(segment.id, ())), stored)
        offset += segment.stored
    for group in waiting.values():
        add_own(group)
    return found


def _draft(
    base: Manifest, table: PathsTable, groups: dict[str, Group], settings: PackSettings, outside: Sequence[str]
) -> Manifest:
    replaced = [record for id in groups for record in table.segments.get(id, ())]
    before = sum(record.size for record in replaced)
    after = sum(entry.size for group in groups.values() for entry in group.entries if entry.type == "file")
    return replace(
        base,
        name=settings.name or base.name,
        version=settings.version or base.version,
        created=base.created if settings.created is None else settings.created,
        writer=f"envpack {__version__}",
        needs=replace(base.needs, disk=max(0, base.needs.disk - before + after)),
        changes=_changes(base.changes, {record.path for record in replaced}, outside),
    )


def _changes(base: Changes, gone: Container[str], outside: Iterable[str]) -> Changes:
    """Return the changes of the base without the paths that are gone."""

    def left(paths: Iterable[str]) -> Iterator[str]:
        return (path for path in paths if path not in gone)

    return replace(
        base,
        modified=tuple(left(base.modified)),
        outside=tuple(sorted({*left(base.outside), *outside}, key=os.fsencode)),
        needs_activation=tuple(left(base.needs_activation)),
        unrelocatable=tuple(item for item in base.unrelocatable if item.path not in gone),
    )
