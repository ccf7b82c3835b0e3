"""Reading of advisories in OSV's format from disk: a directory, a file of one advisory, or a zip archive.

The files may come from anybody: sizes and numbers are limited. A database that can't be read whole is an error, so
that no advisory is missed without a word.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from envpack.audit.advisory import ECOSYSTEM, Advisory, read_advisory, read_header
from envpack.interop.archive.zip_entries import read_data, read_entries
from envpack.prefix.magics import ZIP, ZIP_END
from envpack.runtime.errors import DatabaseError, EnvpackError
from envpack.runtime.fs.io import open_regular, read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.report import Reporter

MAX_RECORD_SIZE = 16 << 20
"""Bytes of one advisory; the largest of PyPI has less than 1 MB."""
MAX_RECORDS = 2_000_000
"""All ecosystems of OSV together have fewer."""
MAX_UNPACKED_SIZE = 16 << 30
"""Bytes of all advisories of a database together."""

HINT = "Download PyPI/all.zip of osv.dev on a machine with internet access; docs/auditing.md says how."

_CLOCKS_DIFFER = timedelta(days=1)


class Database(NamedTuple):
    """The advisories about some packages.

    Attributes:
        paths: Where it was read from.
        records: Number of its advisories about packages of PyPI, without those that were withdrawn.
        modified: When the newest record was modified; None if all are dated later than now.
        advisories: The advisories about each package that was asked for, by canonical name.
    """

    paths: tuple[str, ...]
    records: int
    modified: datetime | None
    advisories: Mapping[str, tuple[Advisory, ...]]


def read_database(paths: Iterable[Path], names: Collection[str], now: datetime, reporter: Reporter) -> Database:
    """Return the advisories about packages, from one or more databases.

    Args:
        paths: Directories, JSON files or zip archives. Of two records of one name, the one modified last counts.
        names: Canonical names of the packages on PyPI.
        now: The time. Records dated later say nothing about the age of the database.
        reporter: Told of the progress.

    Raises:
        DatabaseError: A database is missing, empty or damaged, or not in OSV's format.
    """
    states: dict[str, datetime] = {}
    kept: dict[str, Advisory] = {}
    counted: set[str] = set()
    modified: datetime | None = None
    wanted = frozenset(names)
    places = tuple(paths)
    with reporter.step("Reading advisories", unit="advisories") as step:
        for place in places:
            about = False
            for label, data in _records(place):
                try:
                    document = json_value(data)
                    header = read_header(document)
                    about = about or bool(header.names)
                    if header.modified <= now + _CLOCKS_DIFFER:
                        modified = header.modified if modified is None else max(modified, header.modified)
                    if header.id in states and states[header.id] > header.modified:
                        continue
                    states[header.id] = header.modified
                    kept.pop(header.id, None)
                    counted.discard(header.id)
                    if header.names and not header.withdrawn:
                        counted.add(header.id)
                        if header.names & wanted:
                            kept[header.id] = read_advisory(document)
                except ValueError as problem:
                    raise DatabaseError(
                        f"{label} is not an advisory in OSV's format: {problem}",
                        hint="Only advisories may be in the database. " + HINT,
                    ) from None
                step.advance()
            if not about:
                raise _nothing_in(place)
        step.detail = f"{len(counted):,} advisories"
    if not counted:  # all of them are withdrawn
        raise _nothing_in(*places)
    found: dict[str, list[Advisory]] = {}
    for _, advisory in sorted(kept.items()):
        for name in {affected.name for affected in advisory.affected} & wanted:
            found.setdefault(name, []).append(advisory)
    return Database(
        tuple(map(str, places)), len(counted), modified, {name: tuple(group) for name, group in found.items()}
    )


def _nothing_in(*places: Path) -> DatabaseError:
    listed = ", ".join(map(str, places))
    return DatabaseError(f"there is no advisory about a package of {ECOSYSTEM} in {listed}", hint=HINT)


def _records(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of each record of a database."""
    count = total = 0
    for label, data in _files(place):
        count, total = count + 1, total + len(data)
        if count > MAX_RECORDS or total > MAX_UNPACKED_SIZE:
            raise DatabaseError(
                f"{place} has more than {MAX_RECORDS:,} advisories or {MAX_UNPACKED_SIZE >> 30} GiB", hint=HINT
            )
        yield label, data


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    if not is_folder(place, follow=True):
        yield from _file(place)
        return
    seen: set[str] = set()  # a link may lead to a directory above it
    try:
        for folder, folders, names in os.walk(place, onerror=_raise, followlinks=True):
            if os.path.realpath(folder) in seen:
                folders.clear()
                continue
            seen.add(os.path.realpath(folder))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith((".json", ".zip")) and not name.startswith("."):
                    yield from _file(Path(folder, name))
    except OSError as problem:
        raise _unreadable(Path(os.fsdecode(problem.filename or place)), problem) from None


def _raise(problem: OSError) -> None:
    raise problem


def _file(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        data = read_file(path, MAX_RECORD_SIZE + 1)
    except OSError as problem:
        raise _unreadable(path, problem) from None
    if data.startswith((ZIP, ZIP_END)):
        yield from _members(path)
    elif len(data) > MAX_RECORD_SIZE:
        raise DatabaseError(f"{path} is no zip archive, and too long for an advisory", hint=HINT)
    else:
        yield str(path), data


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    label = str(path)
    try:
        with open(path, "rb", opener=open_regular) as file:
            for entry in read_entries(file):
                if not entry.path.endswith(".json"):
                    continue
                label = f"{path}: {entry.path}"
                if entry.size > MAX_RECORD_SIZE:
                    raise DatabaseError(f"{label} is too long for an advisory", hint=HINT)
                yield label, b"".join(read_data(file, entry))
    except OSError as problem:
        raise _unreadable(path, problem) from None
    except DatabaseError:
        raise
    except EnvpackError as problem:
        raise DatabaseError(f"{path}: {problem.message}", hint="Download it again. " + HINT) from None


def _unreadable(path: Path, problem: OSError) -> DatabaseError:
    return DatabaseError(f"{path}: {problem.strerror}", hint=HINT)
