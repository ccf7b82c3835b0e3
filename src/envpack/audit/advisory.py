"""One advisory in OSV's format, reduced to what concerns packages of PyPI.

Source: the Open Source Vulnerability format, version 1.7 (ossf.github.io/osv-schema). GitHub's advisories state
their rating in ``database_specific.severity``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from envpack.audit.cvss import LEVELS, base_score, rating

ECOSYSTEM = "PyPI"

_RATINGS = {**{level: level for level in LEVELS[1:]}, "moderate": "medium"}
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_LONGEST_SUMMARY = 300
"""Characters; a summary is one line."""


class Event(NamedTuple):
    """A version at which a range begins or ends: ``kind`` is "introduced", "fixed", "last_affected" or "limit"."""

    kind: str
    version: str


class Affected(NamedTuple):
    """The versions of a package that an advisory is about.

    Attributes:
        name: The canonical name of the package.
        versions: Versions that are affected, one by one.
        ranges: Ranges of versions, each the events of it.
    """

    name: str
    versions: frozenset[str]
    ranges: tuple[tuple[Event, ...], ...]


@dataclass(frozen=True)
class Advisory:
    """An advisory.

    Attributes:
        id: Its name, such as PYSEC-2023-183.
        aliases: Names of the same vulnerability in other databases.
        summary: One line about it; "" for none.
        severity: One of `LEVELS`.
        score: The base score of its CVSS v3 vector, the highest of several; None without one.
        affected: The packages of PyPI that it is about.
    """

    id: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    severity: str = LEVELS[0]
    score: float | None = None
    affected: tuple[Affected, ...] = ()


class Header(NamedTuple):
    """What every record of a database states.

    Attributes:
        id: Its name.
        modified: When it was last modified.
        withdrawn: Whether it was withdrawn.
        names: Canonical names of the packages of PyPI that it is about.
    """

    id: str
    modified: datetime
    withdrawn: bool
    names: frozenset[str]


def read_header(document: object) -> Header:
    """Return what a record states of itself.

    Raises:
        ValueError: It is not a record in OSV's format, or in a version of it that is not known.
    """
    record = _mapping(document, "the record")
    version = record.get("schema_version", "1.0.0")
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise ValueError(f"it has version {version!r} of OSV's format; version 1 is known")
    return Header(
        _text(record.get("id"), "id"),
        _time(record.get("modified")),
        record.get("withdrawn") is not None,
        frozenset(name for name, _ in _packages(record)),
    )


def read_advisory(document: object) -> Advisory:
    """Return the advisory in a record.

    Raises:
        ValueError: It is not a record in OSV's format.
    """
    record = _mapping(document, "the record")
    packages = list(_packages(record))
    vectors = [
        _mapping(item, "severity").get("score")
        for stated in (record, *(affected for _, affected in packages))
        for item in _list(stated.get("severity"), "severity")
    ]
    scores = [score for vector in vectors if (score := base_score(str(vector))) is not None]
    score = max(scores, default=None)
    stated = _mapping(record.get("database_specific") or {}, "database_specific").get("severity")
    severity = _RATINGS.get(stated.lower()) if isinstance(stated, str) else None
    return Advisory(
        _text(record.get("id"), "id"),
        tuple(_text(alias, "aliases") for alias in _list(record.get("aliases"), "aliases")),
        _summary(record),
        severity or (LEVELS[0] if score is None else rating(score)),
        score,
        tuple(_affected(name, affected) for name, affected in packages),
    )


def _packages(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the canonical name and the ``affected`` object of each package of PyPI."""
    for item in _list(record.get("affected"), "affected"):
        affected = _mapping(item, "affected")
        if "package" not in affected:  # it is about commits
            continue
        package = _mapping(affected["package"], "package")
        if _text(package.get("ecosystem"), "ecosystem").partition(":")[0] == ECOSYSTEM:
            yield canonicalize_name(_text(package.get("name"), "name")), affected


def _affected(name: str, affected: Mapping[str, Any]) -> Affected:
    ranges = [_mapping(item, "ranges") for item in _list(affected.get("ranges"), "ranges")]
    return Affected(
        name,
        frozenset(_text(version, "versions") for version in _list(affected.get("versions"), "versions")),
        tuple(tuple(_events(each)) for each in ranges if each.get("type") != "GIT"),
    )


def _events(stated: Mapping[str, Any]) -> Iterator[Event]:
    for item in _list(stated.get("events"), "events"):
        for kind, version in _mapping(item, "events").items():
            if kind not in _EVENTS:
                raise ValueError(f"the event {kind!r} is not known")
            yield Event(kind, _text(version, kind))


def _summary(record: Mapping[str, Any]) -> str:
    for text in (record.get("summary"), record.get("details")):
        line = (
            next((line.strip() for line in text.splitlines() if line.strip()), "") if isinstance(text, str) else ""
        )
        if line:
            return line if len(line) <= _LONGEST_SUMMARY else f"{line[: _LONGEST_SUMMARY - 3]}..."
    return ""


def _time(value: object) -> datetime:
    text = _text(value, "modified")
    if not _TIME.fullmatch(text):
        raise ValueError(f"modified is {text!r}, and not a time in UTC such as 2025-12-19T00:00:00Z")
    return datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} is missing or is not a text")
    return value
