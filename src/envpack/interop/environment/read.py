"""The environment in an unpacked archive, read at its former prefix and with verified repairs of its defects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.interop.environment.conda_pack_files import ADDED_FILES, is_placeholder
from envpack.interop.environment.origin import Origin, identifying_files, missing_guarantees, origin_of
from envpack.interop.environment.repairs import ArchiveNormalizer
from envpack.interop.environment.symlinks import check_links, restore_links
from envpack.interop.environment.unpack import Unpacked, unpack
from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import Entry, PrefixContents
from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.report import Reporter


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
        counts = (self.normalizer.verified, files, self.normalizer.differing)
        return missing_guarantees(self.origin, self.format, counts)

    @property
    def subdir(self) -> str:
        """Return conda's platform as the packages state it, "" when none does."""
        packages = (group.package for group in self.contents.groups if group.package is not None)
        return min({package.subdir for package in packages} - {"noarch", ""}, default="")


@contextmanager
def as_integrity_error(root: Path) -> Iterator[None]:
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
        origin = origin_of(identifying_files(root), unpacked.root)
        _check_record(origin, root)
        prefixes = (origin.prefix or os.fsencode(os.path.realpath(root)),)
        check_links(root, unpacked.links, prefixes[0])
        copies = list(restore_links(root)) if unpacked.format == "zip" else []
        own_files = _remove_own_files(root)
        with as_integrity_error(root):
            contents = read_prefix(root, written=prefixes, reporter=reporter)
        _check_conflicts(unpacked, contents)
    except IntegrityError as problem:
        raise IntegrityError(f"{archive}: {problem.message}", hint=problem.hint, details=problem.details) from None
    replaced = tuple(sorted((*contents.replaced, *own_files), key=os.fsencode))
    groups = tuple(
        replace(group, entries=tuple(_as_recorded(entry, origin) for entry in group.entries))
        for group in contents.groups
    )
    contents = replace(contents, replaced=replaced, groups=groups)
    normalizer = ArchiveNormalizer(contents, origin)
    normalizer.repaired["linked"].extend(unpacked.hardlinks)
    normalizer.repaired["times"].extend(unpacked.retimed)
    normalizer.repaired["copies"].extend(copies)
    return Environment(origin, contents, normalizer, unpacked.format)


def _as_recorded(entry: Entry, origin: Origin) -> Entry:
    """Return a file of a package with the placeholder that conda-pack recorded for it, and of any size.

    Records of an environment that envpack deployed name no placeholder. rattler records the size of files as
    installed, and conda-pack packs most files as they were published.
    """
    published = entry.published
    if published is None:
        return entry
    record = origin.records.get(entry.path)
    if published.placeholder is None and record is not None and is_placeholder(record.placeholder):
        published = replace(published, placeholder=record.placeholder, file_mode=record.mode)
    if published.placeholder is None:
        return entry
    return entry._replace(published=replace(published, size=None))


def _check_record(origin: Origin, root: Path) -> None:
    missing = [path for path in origin.records if not os.path.lexists(root / path)]
    if missing:
        raise IntegrityError(
            f"{len(missing)} files in the record of conda-unpack are not in the archive", details=missing[:20]
        )


def _remove_own_files(root: Path) -> list[str]:
    """Remove the files that conda-pack added for itself, and return their paths.

    Its scripts are replaced by those of envpack, which have the same names.
    """
    found = [path for path in ADDED_FILES if os.path.lexists(root / path)]
    for path in found:
        os.unlink(root / path)
    return found


def _check_conflicts(unpacked: Unpacked, contents: PrefixContents) -> None:
    """Raise IntegrityError when a file is in the archive twice with different content.

    The exception is a file that two packages own: conda-pack itself writes it twice.
    """
    others = sorted(set(unpacked.conflicting) - set(contents.replaced))
    if others:
        raise IntegrityError(
            f"{others[0]!r} is in the archive twice with different content, and not in two packages"
        )
