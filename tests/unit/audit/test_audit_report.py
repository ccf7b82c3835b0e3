"""What an audit says of environments: coverage, ignored vulnerabilities, and what is not allowed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from envpack.audit.advisory import read_advisory
from envpack.audit.database import Database
from envpack.audit.ignore import read_ignore
from envpack.audit.report import Audit, Rules, Source, audit, names_on_pypi
from envpack.contents.inventory import Distribution, Installed
from envpack.contents.read import Inventory
from envpack.runtime.errors import AuditError
from envpack.runtime.format.manifest import Package
from support.advisories import advisory, rated
from support.bundle_factory import draft

NOW = datetime(2025, 7, 1, tzinfo=timezone.utc)


def installed(package: Package, *distributions: Package) -> Installed:
    return Installed(package, frozenset(), tuple(Distribution(each) for each in distributions))


def package(kind: str, name: str, version: str = "1.0") -> Package:
    return Package(kind, name, version, segment=f"{kind}:{name}")


OPENCV = installed(package("conda", "py-opencv"), package("pypi", "opencv-python"), package("pypi", "Other"))
ZLIB = installed(package("conda", "zlib"))
SIX = installed(package("pypi", "Six"), package("pypi", "six"))
HIDDEN = installed(package("pypi", "no_metadata"))


def source(*packages: Installed, path: str = "demo.tar.gz") -> Source:
    return Source(path, Inventory(draft(), "d" * 64, list(packages)))


def database(*records: dict[str, Any], modified: datetime | None = NOW) -> Database:
    found: dict[str, list[Any]] = {}
    for record in records:
        read = read_advisory(record)
        found.setdefault(read.affected[0].name, []).append(read)
    return Database(("db",), len(records), modified, {name: tuple(group) for name, group in found.items()})


def run(*packages: Installed, records: tuple[dict[str, Any], ...] = (), ignore: tuple[str, ...] = ()) -> Audit:
    return audit([source(*packages)], database(*records), [read_ignore(text) for text in ignore], NOW)


def reasons(found: Audit, **rules: Any) -> list[str]:
    try:
        found.require(Rules(**rules))
    except AuditError as error:
        assert error.code == 12 and error.result == found.as_dict()
        return error.details
    return []


def test_a_conda_package_is_judged_by_the_distributions_in_it() -> None:
    found = run(OPENCV, ZLIB, SIX, records=(advisory("X", "opencv-python", {"introduced": "0"}),))
    (environment,) = found.environments
    (finding,) = environment.findings
    assert (finding.package.name, finding.distribution.name) == ("py-opencv", "opencv-python")
    assert [one.name for one in environment.unjudged] == ["zlib"]
    assert (environment.packages, environment.judged, round(environment.coverage)) == (3, 2, 67)


def test_names() -> None:
    found = names_on_pypi([source(OPENCV, ZLIB, SIX, HIDDEN), Source("x", None, "gone")])
    assert found == {"opencv-python", "other", "six", "no-metadata"}


def test_a_distribution_with_two_directories_of_metadata_is_judged_once() -> None:
    found = run(SIX, HIDDEN, records=(advisory("X", "six", {"introduced": "0"}),))
    assert [one.distribution.name for one in found.environments[0].findings] == ["six"]
    assert found.environments[0].judged == 2


@pytest.mark.parametrize(
    ("severity", "fail_on", "fails"),
    [
        *(("LOW", "low", True), ("LOW", "medium", False), ("MODERATE", "medium", True), ("HIGH", "low", True)),
        *(("HIGH", "critical", False), ("CRITICAL", "critical", True), ("CRITICAL", None, False)),
        *(("", "low", False), ("", "any", True), ("LOW", "any", True)),
    ],
)
def test_fail_on(severity: str, fail_on: str | None, fails: bool) -> None:
    found = run(SIX, records=(advisory("X", "six", {"introduced": "0"}, **rated(severity)),))
    assert bool(reasons(found, fail_on=fail_on)) == fails


def test_a_malicious_package_fails_at_every_severity() -> None:
    found = run(SIX, records=(advisory("MAL-1", "six", {"introduced": "0"}),))
    assert reasons(found, fail_on="critical") == ["demo.tar.gz: 1 that --fail-on critical does not allow: MAL-1"]
    assert reasons(found) == []


def test_what_is_ignored_does_not_count_until_its_day_is_over() -> None:
    records = (
        advisory("GHSA-1", "six", {"introduced": "0"}, aliases=["CVE-1"]),
        advisory("GHSA-2", "six", {"introduced": "0"}),
    )
    ignore = ("GHSA-1:not used:2025-07-01", "GHSA-2:not used:2025-06-30", "GHSA-3:not used:2025-07-01")
    found = run(SIX, records=records, ignore=ignore)
    assert [state for _, state in found.ignores] == ["applied", "expired", "unmatched"]
    assert reasons(found, fail_on="any") == ["demo.tar.gz: 1 that --fail-on any does not allow: GHSA-2"]
    stated = {one["id"]: one["ignored"] for one in found.as_dict()["environments"][0]["vulnerabilities"]}
    assert stated["CVE-1"] == {"id": "GHSA-1", "reason": "not used", "until": "2025-07-01"}
    assert stated["GHSA-2"] is None


@pytest.mark.parametrize(
    ("days", "most", "reason"),
    [
        (3, 3, ""),
        (4, 3, "the database is 4 days old; --max-age is 3"),
        (-0.5, 0, ""),
        (400, None, ""),
        (
            None,
            9,
            "the age of the database is unknown: all advisories are dated later than the clock of this host",
        ),
        (None, None, ""),
    ],
)
def test_age(days: float | None, most: int | None, reason: str) -> None:
    modified = None if days is None else NOW - timedelta(days=days)
    found = audit([source(SIX)], database(advisory("X"), modified=modified), [], NOW)
    assert reasons(found, max_age=most) == ([reason] if reason else [])


def test_coverage() -> None:
    found = run(OPENCV, ZLIB, SIX)
    assert reasons(found, coverage=66) == []
    assert reasons(found, coverage=66.7) == [
        "demo.tar.gz: 2 of 3 packages can be judged, 66.7 %; --require-coverage is 66.7 %"
    ]
    assert reasons(run(), coverage=100) == []


def test_an_environment_that_can_not_be_read_always_fails() -> None:
    found = audit([Source("/x", None, "no permission"), source(SIX)], database(), [], NOW)
    assert reasons(found, coverage=100) == ["/x can't be audited: no permission"]
    assert [one["problem"] for one in found.as_dict()["environments"]] == ["no permission", None]
