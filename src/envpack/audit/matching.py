"""Which advisories are about a version of a package, and the vulnerabilities that they describe.

Sources: "Evaluation" in OSV's format (ossf.github.io/osv-schema) for versions and ranges; PEP 440 for the order of
versions. A bound without a local version ignores that of the package, as PEP 440's version specifiers do:
2.3.0+cu121 is a build of 2.3.0. A version that is not one of PEP 440 is older than all that are, as in packaging
before 22.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cmp_to_key, lru_cache
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from envpack.audit.advisory import Advisory, Affected, Event
from envpack.audit.cvss import LEVELS

MALICIOUS = "MAL-"
"""Start of the names of advisories about packages that were published to do harm."""

KNOWN = (MALICIOUS, "CVE-", "GHSA-", "PYSEC-")
"""Starts of the names of vulnerabilities; of several names, that of the first is shown first."""


class Vulnerability(NamedTuple):
    """A vulnerability of a distribution.

    Attributes:
        id: The name that it is shown by.
        aliases: Its other names, sorted.
        records: Names of the advisories that it was found by, in the order of ``id``.
        malicious: Whether the distribution was published to do harm.
        severity: One of `LEVELS`: the worst that an advisory states, also one about other versions.
        score: The highest base score of CVSS v3; None without one.
        fixed: The version that no advisory is about any more; "" when none is known.
        summary: One line about it; "" for none.
    """

    id: str
    aliases: tuple[str, ...]
    records: tuple[str, ...]
    malicious: bool
    severity: str
    score: float | None
    fixed: str
    summary: str

    @property
    def names(self) -> frozenset[str]:
        """Return all names of it."""
        return frozenset((self.id, *self.aliases))

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Return what it is sorted by: a larger one is worse."""
        return self.malicious, LEVELS.index(self.severity), self.score or 0


def vulnerabilities(name: str, version: str, advisories: Iterable[Advisory]) -> list[Vulnerability]:
    """Return the vulnerabilities of a version of a distribution, the worst first.

    Args:
        name: The canonical name of the distribution.
        version: Its version.
        advisories: The advisories about any version of it. Those of one vulnerability are joined by their aliases.
    """
    found = []
    for members in _joined(advisories):
        mine = [advisory for advisory in members if _is_about(advisory, name, version)]
        if mine:
            found.append(_vulnerability(name, version, mine, members))
    return sorted(found, key=lambda one: ([-part for part in one.rank], one.id))


def _joined(advisories: Iterable[Advisory]) -> list[list[Advisory]]:
    """Return the advisories in groups that share a name, directly or by others."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    known = {advisory.id: advisory for advisory in advisories}
    for advisory in known.values():
        for alias in advisory.aliases:
            parents[root(alias)] = root(advisory.id)
    groups: dict[str, list[Advisory]] = {}
    for advisory in known.values():
        groups.setdefault(root(advisory.id), []).append(advisory)
    return list(groups.values())


def _vulnerability(
    name: str, version: str, found: Sequence[Advisory], members: Sequence[Advisory]
) -> Vulnerability:
    first, *others = sorted({name for one in members for name in (one.id, *one.aliases)}, key=_name_key)
    records = sorted(found, key=lambda one: _name_key(one.id))
    return Vulnerability(
        first,
        tuple(others),
        tuple(one.id for one in records),
        any(one.id.startswith(MALICIOUS) for one in records),
        max((one.severity for one in members), key=LEVELS.index),
        max((one.score for one in members if one.score is not None), default=None),
        _fixed(members, name, version),
        next((one.summary for one in records if one.summary), ""),
    )


def _name_key(name: str) -> tuple[int, str]:
    return next((place for place, start in enumerate(KNOWN) if name.startswith(start)), len(KNOWN)), name


def _is_about(advisory: Advisory, name: str, version: str) -> bool:
    return any(affected.name == name and is_affected(affected, version) for affected in advisory.affected)


def _fixed(advisories: Sequence[Advisory], name: str, version: str) -> str:
    """Return the lowest version above one that is stated as fixed, and that none of the advisories is about."""
    stated = {
        event.version
        for advisory in advisories
        for affected in advisory.affected
        if affected.name == name
        for events in affected.ranges
        for event in events
        if event.kind == "fixed" and _compare(version, event.version, of_a_package=True) < 0
    }
    fixes = sorted(stated, key=cmp_to_key(_compare))
    return next((fix for fix in fixes if not any(_is_about(one, name, fix) for one in advisories)), "")


def is_affected(affected: Affected, version: str) -> bool:
    """Return whether a version of the package is affected: it is listed, or it is in one of the ranges."""
    if version in affected.versions:
        return True
    if any(_compare(version, listed, of_a_package=True) == 0 for listed in affected.versions):
        return True
    return any(_in_range(events, version) for events in affected.ranges)


def _in_range(events: Sequence[Event], version: str) -> bool:
    limits = [event.version for event in events if event.kind == "limit"]
    if limits and not any(limit == "*" or _compare(version, limit, of_a_package=True) < 0 for limit in limits):
        return False
    inside = False
    for event in sorted(events, key=cmp_to_key(_compare_events)):
        if event == _FROM_THE_FIRST:
            inside = True
            continue
        order = _compare(version, event.version, of_a_package=True)
        if event.kind == "introduced" and order >= 0:
            inside = True
        elif (event.kind == "fixed" and order >= 0) or (event.kind == "last_affected" and order > 0):
            inside = False
    return inside


_FROM_THE_FIRST = Event("introduced", "0")
"""It is before every version, also before 0a1."""


def _compare_events(left: Event, right: Event) -> int:
    first = (left != _FROM_THE_FIRST) - (right != _FROM_THE_FIRST)
    return first or _compare(left.version, right.version)


def _compare(left: str, right: str, *, of_a_package: bool = False) -> int:
    """Return a negative number, 0 or a positive number: left is older, the same or newer.

    With ``of_a_package``, left is the version of a package and right a bound.
    """
    older, newer = _version(left), _version(right)
    if older is None or newer is None:
        if older is None and newer is None:
            return (left > right) - (left < right)
        return -1 if older is None else 1
    if of_a_package and older.local and not newer.local:
        older = _version(older.public) or older
    return (older > newer) - (older < newer)


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
