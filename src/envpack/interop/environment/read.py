"""The environment in an unpacked archive, read at its former prefix and with verified repairs of its defects."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.interop.environment.conda_pack_files import OWN, is_placeholder
from envpack.interop.environment.origin import RECORDED, Origin, missing_guarantees, origin_of, telling_files
from envpack.interop.environment.symlinks import check_links, restore_links
from envpack.interop.environment.unpack import Contents, unpack
from envpack.prefix import Entry, FileNormalizer, PrefixContents, Stored, read_prefix
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.deployment.source import Fixup
from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.report import Reporter

REASONS = {
    "interpreter": "conda-pack lets these scripts run the first python on PATH (its issue 44), and those whose "
    "interpreter has options not at all; they run the environment's own again",
    "skipped": "conda-unpack leaves out files named bin/python*, and so the packed environment's path, or a "
    "placeholder, in them",
    "unrecorded": "not in conda-pack's record, so that conda-unpack leaves the packed environment's path, or a "
    "placeholder, in them",
    "found": "the archive has no record of prefixes; the path in these files was found by search",
    "byte-code": "conda-unpack leaves the packed environment's path in byte-code, and makes that of sources it "
    "rewrites stale",
    "times": "a zip keeps times too coarsely for byte-code, which Python would compile anew; restored from it",
    "copies": "conda-pack writes copies for links into a zip, and does not record these for conda-unpack",
    "linked": "conda-pack writes scripts that share an inode so that tar loses track behind them",
}
"""Kinds of repair, each with the reason for it."""

_THROUGH_ENV = re.compile(rb"#!/usr/bin/env (?P<name>[^\s/]+)(?P<rest>[^\n]*)")


@dataclass(frozen=True)
class Environment:
    """An environment read from an archive, to be stored through ``normalizer``, which records the repairs."""

    origin: Origin
    contents: PrefixContents
    normalizer: ArchiveNormalizer
    format: str

    @property
    def missing_guarantees(self) -> tuple[str, ...]:
        """Return what the archive doesn't state, and how many files were verified, one sentence each.

        The numbers are complete once all files are stored.
        """
        files = sum(entry.type == "file" for group in self.contents.groups for entry in group.entries)
        proofs = (self.normalizer.proved, files, self.normalizer.differing)
        return missing_guarantees(self.origin, self.format, proofs)

    @property
    def subdir(self) -> str:
        """Return conda's platform as the packages state it, "" when none does."""
        packages = (group.package for group in self.contents.groups if group.package is not None)
        return min({package.subdir for package in packages} - {"noarch", ""}, default="")


@contextmanager
def as_integrity(root: Path) -> Iterator[None]:
    """Convert a PackError about the environment unpacked to ``root`` to an IntegrityError about the archive."""
    try:
        yield
    except PackError as problem:
        message = problem.message.replace(f"{root}/", "").replace(f" in {root}", "")
        raise IntegrityError(message, details=problem.details) from None


def read_archive(archive: Path, folder: Path, reporter: Reporter) -> Environment:
    """Unpack ``archive`` into the empty ``folder`` and read the environment there.

    Args:
        archive: An archive of another tool.
        folder: An empty folder.
        reporter: Receives the progress.

    Raises:
        FormatError: The archive holds no environment.
        IntegrityError: The archive is damaged or unsafe.
    """
    with reporter.step(f"Unpacking {archive.name}", archive.stat().st_size) as step:
        unpacked = unpack(archive, folder, step)
    root = folder / unpacked.root
    try:
        origin = origin_of(telling_files(root), unpacked.root)
        _check_record(origin, root)
        names = (origin.prefix or os.fsencode(os.path.realpath(root)),)
        check_links(root, unpacked.links, names[0])
        copies = list(restore_links(root)) if unpacked.format == "zip" else []
        own = _drop_own(root)
        with as_integrity(root):
            contents = read_prefix(root, written=names, reporter=reporter)
        _check_twice(unpacked, contents)
    except IntegrityError as problem:
        raise IntegrityError(f"{archive}: {problem.message}", hint=problem.hint, details=problem.details) from None
    replaced = tuple(sorted((*contents.replaced, *own), key=os.fsencode))
    groups = tuple(replace(group, entries=tuple(map(_of_any_size, group.entries))) for group in contents.groups)
    contents = replace(contents, replaced=replaced, groups=groups)
    normalizer = ArchiveNormalizer(contents, origin)
    normalizer.repaired["linked"].extend(unpacked.linked)
    normalizer.repaired["times"].extend(unpacked.timed)
    normalizer.repaired["copies"].extend(copies)
    return Environment(origin, contents, normalizer, unpacked.format)


def _of_any_size(entry: Entry) -> Entry:
    """Drop the published size of a file with a prefix in it.

    rattler records the size of files as installed, and conda-pack packs most files as they were published.
    """
    if entry.published is None or entry.published.placeholder is None:
        return entry
    return entry._replace(published=replace(entry.published, size=None))


def _check_record(origin: Origin, root: Path) -> None:
    missing = [path for path in origin.records if not os.path.lexists(root / path)]
    if missing:
        raise IntegrityError(
            f"{len(missing)} files that conda-unpack is to rewrite are not in it", details=missing[:20]
        )


def _drop_own(root: Path) -> list[str]:
    """Remove the files that conda-pack added for itself, and return their paths.

    Its scripts are replaced by those of envpack, which have the same names.
    """
    found = [path for path in OWN if os.path.lexists(root / path)]
    for path in found:
        os.unlink(root / path)
    return found


def _check_twice(unpacked: Contents, contents: PrefixContents) -> None:
    """Raise IntegrityError when a file is in the archive twice with different content.

    The exception is a file that two packages own: conda-pack itself writes it twice.
    """
    others = sorted(set(unpacked.twice) - set(contents.replaced))
    if others:
        raise IntegrityError(f"{others[0]!r} is there twice, and differs, though no two packages have it")


class ArchiveNormalizer(FileNormalizer):
    """A normalizer for the files of an archive; ``repaired`` holds the paths repaired so far, by kind."""

    def __init__(self, contents: PrefixContents, origin: Origin) -> None:
        super().__init__(contents.prefix, contents)
        self.repaired: dict[str, list[str]] = defaultdict(list)
        self.proved = self.differing = 0
        self._contents, self._origin = contents, origin
        entries = [(group, entry) for group in contents.groups for entry in group.entries]
        self._conda = {e.path for g, e in entries if g.package is not None and g.package.kind == "conda"}
        known = {e.published.placeholder for _, e in entries if e.published is not None}
        known |= {record.placeholder for record in origin.records.values()}
        self._known = {name for name in known if name} - set(contents.aliases)
        self._wider: dict[frozenset[bytes], FileNormalizer] = {}

    @property
    def repairs(self) -> tuple[Fixup, ...]:
        """Return the repairs made so far, in the order of REASONS."""
        return tuple(
            Fixup(kind, reason, tuple(sorted(self.repaired[kind], key=os.fsencode)))
            for kind, reason in REASONS.items()
            if self.repaired[kind]
        )

    def normalize(self, entry: Entry, data: FileData) -> Stored:
        """Return how a file is stored, repaired where a repair is verified, and record the repair."""
        restored = self._restored(entry, data)
        given = data if restored is None else restored
        stored = super().normalize(entry, given)
        if entry.content is None:
            stored = self._store_placeholders(entry, given, stored)
            if entry.published is not None or entry.recorded:
                self.proved += not stored.modified
                self.differing += stored.modified
            kind = self._kind(entry, data, stored)
            if kind:
                self.repaired[kind].append(entry.path)
        return stored

    def _restored(self, entry: Entry, data: FileData) -> bytes | None:
        """Return a script with the first line it had before conda-pack rewrote it to use ``env``.

        The result is None where nothing shows that the script had another first line. A file that a conda package
        published is verified later, by its digest. For others the evidence is the digest in pip's RECORD or in
        conda's record, or conda-pack's record, which lists every other text in bin that no package published
        (``Packer.add``). A line with an option never worked: ``env`` takes program and option for one name.
        """
        line = _THROUGH_ENV.match(data) if isinstance(data, bytes) and entry.path.startswith("bin/") else None
        if line is None or not isinstance(data, bytes) or self._origin.layout != RECORDED:
            return None
        if entry.published is not None or entry.path in self._origin.records:
            return None
        program = self._contents.aliases[0] + b"/bin/" + line["name"]
        lines = (lead + program + line["rest"] + data[line.end() :] for lead in (b"#!", b"#! "))
        for candidate in lines:
            if entry.recorded and hashlib.sha256(candidate).hexdigest() == entry.recorded:
                return candidate
        rewritten = entry.path not in self._conda and not entry.path.startswith("bin/python")
        if not (rewritten or line["rest"].strip()) or not _is_utf8(data):
            return None
        name = os.fsdecode(line["name"])
        if not os.path.lexists(self._contents.prefix / "bin" / name):
            return None
        return b"#!" + program + line["rest"] + data[line.end() :]

    def _store_placeholders(self, entry: Entry, data: FileData, stored: Stored) -> Stored:
        """Store a file that no digest verifies and that may still hold placeholders of packages.

        Such files are copies of linked folders in a zip, and files of packages that state no digests.
        """
        if (entry.published is not None and not stored.modified) or entry.path.endswith(".pyc"):
            return stored
        record = self._origin.records.get(entry.path)
        if not is_placeholder(data) and (record is None or record.placeholder not in self._known):
            return stored
        present = frozenset(name for name in self._known if data.find(name) >= 0)
        if not present:
            return stored
        if present not in self._wider:
            aliases = (*self._contents.aliases, *sorted(present))
            self._wider[present] = FileNormalizer(self._contents.prefix, replace(self._contents, aliases=aliases))
        return self._wider[present].normalize(entry, data)

    def _kind(self, entry: Entry, data: FileData, stored: Stored) -> str:
        """Return the kind of repair that a file got, "" for none."""
        where = stored.relocation
        renamed = entry.path.endswith(".pyc") and stored.size != len(data)
        if where is None and not renamed:
            return ""
        if (
            where is not None
            and where.shebang is not None
            and isinstance(data, bytes)
            and _THROUGH_ENV.match(data)
        ):
            return "interpreter"
        if self._origin.layout != RECORDED:
            return "found"
        if entry.path.endswith(".pyc"):
            return "byte-code"
        if entry.path in self._origin.records:
            return ""
        return "skipped" if entry.path.startswith("bin/python") else "unrecorded"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
