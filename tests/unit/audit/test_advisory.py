"""Records in OSV's format."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from envpack.audit.advisory import Affected, Event, read_advisory, read_header
from support.advisories import advisory, rated

CRITICAL = {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}
VERSION_4 = {"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H"}]}


def test_header() -> None:
    record = advisory("GHSA-1", "Py_OpenCV", {"introduced": "0"})
    record["affected"].append({"package": {"ecosystem": "npm", "name": "other"}})
    record["affected"].append({"ranges": [{"type": "GIT", "events": []}]})
    found = read_header(record)
    assert (found.id, found.names, found.withdrawn) == ("GHSA-1", {"py-opencv"}, False)
    assert found.modified == datetime(2025, 6, 1, tzinfo=timezone.utc)
    assert read_header({**record, "withdrawn": "2025-06-02T00:00:00Z"}).withdrawn
    assert read_header({**record, "modified": "2025-06-02T01:02:03.123456789Z"}).modified.second == 3
    assert read_header({"id": "X", "modified": record["modified"]}).names == frozenset()


def test_advisory() -> None:
    record = advisory(
        *("GHSA-1", "Demo", {"introduced": "1"}, {"fixed": "2"}),
        **{"versions": ["1.0"], "aliases": ["CVE-1"], "summary": " A flaw\nand more"},
    )
    record["affected"][0]["ranges"].append({"type": "GIT", "events": [{"introduced": "abc"}]})
    found = read_advisory(record)
    assert (found.id, found.aliases, found.summary) == ("GHSA-1", ("CVE-1",), "A flaw")
    assert found.affected == (
        Affected("demo", frozenset({"1.0"}), ((Event("introduced", "1"), Event("fixed", "2")),)),
    )


@pytest.mark.parametrize(
    ("fields", "severity", "score"),
    [
        ({}, "unknown", None),
        (rated("MODERATE"), "medium", None),
        (rated("critical"), "critical", None),
        (rated("odd"), "unknown", None),
        (CRITICAL, "critical", 9.8),
        ({**CRITICAL, **rated("LOW")}, "low", 9.8),
        (VERSION_4, "unknown", None),
        ({**VERSION_4, **rated("HIGH")}, "high", None),
        ({"severity": None, "database_specific": None}, "unknown", None),
    ],
)
def test_severity(fields: dict[str, Any], severity: str, score: float | None) -> None:
    found = read_advisory(advisory("X", **fields))
    assert (found.severity, found.score) == (severity, score)


def test_severity_of_the_package() -> None:
    record = advisory("X")
    record["affected"][0].update(CRITICAL)
    assert read_advisory(record).severity == "critical"


def test_a_summary_is_the_first_line_of_the_details_and_short() -> None:
    assert read_advisory(advisory("X", details="\n\n One \nTwo")).summary == "One"
    assert len(read_advisory(advisory("X", summary="x" * 9999)).summary) == 300


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"modified": None},
        {"modified": "yesterday"},
        {"modified": "2025-13-01T00:00:00Z"},
        {"modified": "2025-06-01T00:00:00+02:00"},
        {"schema_version": "2.0.0"},
        {"schema_version": 1},
        {"affected": {}},
        {"affected": [1]},
        {"affected": [{"package": "demo"}]},
        {"affected": [{"package": {"ecosystem": "PyPI"}}]},
        {"affected": [{"package": {"name": "demo"}}]},
    ],
)
def test_what_is_no_record(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read_header({**advisory("X"), **change})


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_what_is_no_object(document: object) -> None:
    with pytest.raises(ValueError, match="not an object"):
        read_header(document)


@pytest.mark.parametrize(
    "change",
    [
        {"versions": "1.0"},
        {"versions": [1]},
        {"ranges": {}},
        {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": 0}]}]},
        {"ranges": [{"type": "ECOSYSTEM", "events": [{"begin": "0"}]}]},
        {"ranges": [{"type": "ECOSYSTEM", "events": "x"}]},
        {"severity": ["HIGH"]},
    ],
)
def test_what_can_not_be_judged_is_refused(change: dict[str, Any]) -> None:
    record = advisory("X")
    record["affected"][0].update(change)
    with pytest.raises(ValueError):
        read_advisory(record)
