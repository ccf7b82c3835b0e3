"""Versions, ranges and aliases."""

from __future__ import annotations

import pytest

from envpack.audit.advisory import Affected, Event, read_advisory
from envpack.audit.matching import Vulnerability, is_affected, vulnerabilities
from support.advisories import advisory, rated

FROM, FIXED, LAST, LIMIT = "introduced", "fixed", "last_affected", "limit"


def found(version: str, *records: dict[str, object]) -> list[Vulnerability]:
    return vulnerabilities("demo", version, map(read_advisory, records))


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([(FROM, "0")], ["0a1", "0.dev0", "1.0", "99", "odd"], []),
        ([(FROM, "0"), (FIXED, "2.0")], ["1.9", "2.0rc1", "2.0.dev1"], ["2.0", "2.0.0", "2.0.post1", "10.0"]),
        ([(FROM, "1.0"), (FIXED, "2.0")], ["1.0", "1.0.post1", "1.5"], ["0.9", "1.0rc1"]),
        ([(FROM, "1.0"), (LAST, "2.0")], ["2.0", "2.0.0", "2.0+cu121"], ["2.0.1", "2.0.post1"]),
        ([(FIXED, "2.0"), (FROM, "3.0"), (FIXED, "4.0"), (FROM, "0")], ["1.0", "3.5"], ["2.5", "4.0"]),
        ([(FROM, "0"), (LIMIT, "3.0")], ["2.9"], ["3.0"]),
        ([(FROM, "0"), (LIMIT, "*")], ["9"], []),
        ([(FROM, "0"), (FIXED, "2.0+patch1")], ["2.0", "1.9+local"], ["2.0+patch1", "2.0+patch2"]),
        ([(FROM, "2.0")], ["2.0+cu121", "1!0.1"], ["1.9+cu121"]),
        ([(FROM, "old"), (FIXED, "older")], ["oldd"], ["1.0", "a", "older"]),
        ([], [], ["1.0"]),
    ],
)
def test_ranges(events: list[tuple[str, str]], inside: list[str], outside: list[str]) -> None:
    affected = Affected("demo", frozenset(), (tuple(Event(*event) for event in events),))
    assert [version for version in inside if not is_affected(affected, version)] == []
    assert [version for version in outside if is_affected(affected, version)] == []


def test_versions_are_compared_as_pep_440_does() -> None:
    affected = Affected("demo", frozenset({"1.0", "2.0rc1", "odd"}), ())
    assert all(
        is_affected(affected, version) for version in ("1.0", "1.0.0", "v1.0", "1.0+cpu", "2.0-rc.1", "odd")
    )
    assert not any(is_affected(affected, version) for version in ("1.0.1", "1.0.post1", "2.0", "odder"))


def test_a_listed_version_is_affected_also_outside_of_the_ranges() -> None:
    record = advisory("X", "demo", {"introduced": "0"}, {"fixed": "1.0"}, versions=["1.5"])
    assert [one.fixed for one in found("0.9", record)] == ["1.0"]
    assert [one.fixed for one in found("1.5", record)] == [""]
    assert found("1.4", record) == []


def test_advisories_of_one_vulnerability_are_joined() -> None:
    (one,) = found(
        "1.0",
        advisory("PYSEC-1", versions=["1.0"], aliases=["CVE-2025-1"], details="From PyPA"),
        advisory("GHSA-1", "demo", {"introduced": "0"}, {"fixed": "2.0"}, aliases=["CVE-2025-1"], **rated("HIGH")),
        advisory("GHSA-other", "demo", {"introduced": "0"}, {"fixed": "0.5"}),
    )
    assert (one.id, one.aliases, one.records) == ("CVE-2025-1", ("GHSA-1", "PYSEC-1"), ("GHSA-1", "PYSEC-1"))
    assert (one.severity, one.fixed, one.summary, one.malicious) == ("high", "2.0", "From PyPA", False)


def test_advisories_are_joined_by_one_that_is_about_other_versions() -> None:
    records = (
        advisory("PYSEC-1", versions=["1.0"], aliases=["CVE-1"]),
        advisory("GHSA-1", versions=["9.0"], aliases=["CVE-1", "CVE-2"]),
        advisory("OSV-1", versions=["1.0"], aliases=["CVE-2"]),
    )
    (one,) = found("1.0", *records)
    assert (one.id, one.records) == ("CVE-1", ("PYSEC-1", "OSV-1"))
    assert one.names == {"CVE-1", "CVE-2", "GHSA-1", "OSV-1", "PYSEC-1"}


def test_the_highest_severity_and_the_newest_fix_count() -> None:
    (one,) = found(
        "1.0",
        advisory("PYSEC-1", "demo", {"introduced": "0"}, {"fixed": "1.10"}, aliases=["GHSA-1"], **rated("LOW")),
        advisory("GHSA-1", "demo", {"introduced": "0"}, {"fixed": "1.9"}, **rated("CRITICAL")),
    )
    assert (one.severity, one.fixed) == ("critical", "1.10")


def test_a_fix_that_is_affected_itself_is_none() -> None:
    record = advisory("X", "demo", {"introduced": "0"}, {"fixed": "2.0"}, versions=["2.0"])
    record["affected"][0]["ranges"].append(
        {"type": "ECOSYSTEM", "events": [{"introduced": "2.0"}, {"fixed": "3.0"}]}
    )
    assert [one.fixed for one in found("1.0", record)] == ["3.0"]


def test_a_fix_that_another_advisory_is_about_is_none() -> None:
    (one,) = found(
        "1.0",
        advisory("GHSA-1", "demo", {"introduced": "0"}, {"fixed": "2.0"}),
        advisory("PYSEC-1", "demo", {"introduced": "0"}, aliases=["GHSA-1"]),
    )
    assert one.fixed == ""
    ranges = [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.9"}, {"fixed": "3.0"}]
    (one,) = found(
        "1.0",
        advisory("GHSA-1", "demo", {"introduced": "0"}, {"fixed": "2.0"}),
        advisory("PYSEC-1", "demo", *ranges, aliases=["GHSA-1"]),
    )
    assert one.fixed == "3.0"


def test_the_severity_is_the_worst_of_all_names() -> None:
    (one,) = found(
        "1.0",
        advisory("PYSEC-1", versions=["1.0"], aliases=["GHSA-1"]),
        advisory("GHSA-1", versions=["0.9"], **rated("HIGH")),
    )
    assert (one.severity, one.records) == ("high", ("PYSEC-1",))


def test_the_worst_is_first() -> None:
    every = [{"introduced": "0"}]
    score = {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]}
    records = (
        advisory("CVE-5", "demo", *every),
        advisory("CVE-4", "demo", *every, **rated("LOW")),
        advisory("CVE-3", "demo", *every, **rated("HIGH")),
        advisory("CVE-2", "demo", *every, **score),
        advisory("CVE-1", "demo", *every, **rated("CRITICAL")),
        advisory("MAL-1", "demo", *every),
    )
    assert [one.id for one in found("1", *records)] == ["MAL-1", "CVE-1", "CVE-2", "CVE-3", "CVE-4", "CVE-5"]


def test_a_malicious_package_is_named_so_whatever_its_aliases_are() -> None:
    (one,) = found("1", advisory("MAL-1", "demo", {"introduced": "0"}, aliases=["CVE-1", "GHSA-1"]))
    assert (one.id, one.malicious) == ("MAL-1", True)


def test_an_alias_of_another_database_does_not_make_a_package_malicious() -> None:
    (one,) = found("1", advisory("GHSA-1", "demo", {"introduced": "0"}, aliases=["MAL-1"]))
    assert one.malicious is False


def test_an_advisory_about_another_package_is_none() -> None:
    assert found("1", advisory("X", "other", {"introduced": "0"})) == []


def test_many_advisories_with_many_aliases() -> None:
    records = [
        advisory(f"GHSA-{number}", "demo", {"introduced": "0"}, aliases=[f"GHSA-{number + 1}"])
        for number in range(5_000)
    ]
    assert len(found("1", *records)) == 1
