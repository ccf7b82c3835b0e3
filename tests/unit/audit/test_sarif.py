"""The SARIF document of an audit.

OASIS's schema is in no package of a registry; ``SCHEMA`` is what the specification says of the members that
envpack writes: sections 3.13 (log), 3.14 (run), 3.19 (driver), 3.27 (result), 3.28 (location), 3.35 (suppression)
and 3.49 (rule).
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import jsonschema
import pytest

from envpack.audit.advisory import read_advisory
from envpack.audit.database import Database
from envpack.audit.ignore import read_ignore
from envpack.audit.report import Source, audit
from envpack.audit.sarif import sarif
from envpack.contents.inventory import Distribution, Installed
from envpack.contents.read import Inventory
from envpack.runtime.format.manifest import Package
from support.advisories import advisory, rated
from support.bundle_factory import draft

NOW = datetime(2025, 7, 1, tzinfo=timezone.utc)
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def members(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


TEXT = {"type": "string", "minLength": 1}
URI = {"type": "string", "pattern": r"^([A-Za-z0-9._~:/?#@!$&'()*+,;=-]|%[0-9A-F]{2})+$"}
MESSAGE = members({"text": TEXT})
RULE = members(
    {"id": TEXT},
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    helpUri=URI,
    defaultConfiguration=members({}, level=LEVEL),
    properties={"type": "object", "properties": {"tags": array(TEXT, uniqueItems=True)}},
)
LOCATION = members(
    {},
    physicalLocation=members(
        {"artifactLocation": members({}, uri=URI)}, region=members({}, startLine={"type": "integer", "minimum": 1})
    ),
    logicalLocations=array(members({}, fullyQualifiedName=TEXT, kind=TEXT), uniqueItems=True),
)
SUPPRESSION = members(
    {"kind": {"enum": ["inSource", "external"]}},
    status={"enum": ["accepted", "underReview", "rejected"]},
    justification=TEXT,
)
RESULT = members(
    {"message": MESSAGE},
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level=LEVEL,
    locations=array(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    suppressions=array(SUPPRESSION, uniqueItems=True),
)
RUN = members(
    {
        "tool": members(
            {"driver": members({"name": TEXT}, semanticVersion=TEXT, rules=array(RULE, uniqueItems=True))}
        )
    },
    invocations=array(
        members(
            {"executionSuccessful": {"type": "boolean"}},
            toolExecutionNotifications=array(members({"message": MESSAGE}, level=LEVEL)),
        )
    ),
    results=array(RESULT),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)
SCHEMA = members({"version": {"const": "2.1.0"}, "runs": array(RUN)}, **{"$schema": URI})


def source(path: str = "dist/demo.tar.gz") -> Source:
    conda = Package("conda", "py-demo", "1.0", segment="conda:py-demo")
    inside = Distribution(Package("pypi", "demo", "1.0"))
    return Source(path, Inventory(draft(), "d" * 64, [Installed(conda, frozenset(), (inside,))]))


def run(
    *sources: Source, records: tuple[dict[str, Any], ...] = (), ignore: tuple[str, ...] = ()
) -> dict[str, Any]:
    database = Database(("db",), 1, NOW, {"demo": tuple(map(read_advisory, records))})
    data = sarif(audit(sources, database, [read_ignore(text) for text in ignore], NOW))
    assert data.isascii() and data.endswith(b"}\n")
    document = json.loads(data)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    (found,) = document["runs"]
    rules = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
    assert len(rules) == len(set(rules))
    assert [rules[result["ruleIndex"]] for result in found["results"]] == [
        result["ruleId"] for result in found["results"]
    ]
    return dict(found)


def test_a_vulnerability_is_a_rule_and_each_of_its_places_a_result() -> None:
    record = advisory("GHSA-1", "demo", {"introduced": "0"}, {"fixed": "2"}, aliases=["CVE-1"], summary="A flaw.")
    found = run(source(), source("/opt/my env"), records=({**record, **rated("HIGH")},))
    (rule,) = found["tool"]["driver"]["rules"]
    assert rule["id"] == "CVE-1" and rule["helpUri"].endswith("/GHSA-1")
    assert rule["fullDescription"]["text"] == "CVE-1: A flaw. Also named GHSA-1."
    assert rule["properties"] == {"tags": ["security"], "security-severity": "7.0"}
    first, second = found["results"]
    assert first["message"]["text"] == (
        "demo 1.0 in the conda package py-demo 1.0, of synthetic 1.0, has the vulnerability CVE-1. "
        "A flaw. Fixed in 2."
    )
    assert first["level"] == "error" and first["suppressions"] == []
    places = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in (first, second)]
    assert places == ["dist/demo.tar.gz", "file:///opt/my%20env"]
    assert first["partialFingerprints"] == second["partialFingerprints"]


@pytest.mark.parametrize(
    ("fields", "level", "score"),
    [
        (rated("CRITICAL"), "error", "9.0"),
        (rated("MODERATE"), "warning", "4.0"),
        (rated("LOW"), "note", "0.1"),
        ({}, "warning", None),
        (
            {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]},
            *("error", "7.5"),
        ),
        ({"id": "MAL-1"}, "error", "10.0"),
    ],
)
def test_levels(fields: dict[str, Any], level: str, score: str | None) -> None:
    found = run(source(), records=({**advisory("GHSA-1", "demo", {"introduced": "0"}), **fields},))
    assert found["results"][0]["level"] == level
    assert found["tool"]["driver"]["rules"][0]["properties"].get("security-severity") == score


def test_what_is_ignored_is_suppressed() -> None:
    record = advisory("GHSA-1", "demo", {"introduced": "0"})
    found = run(source(), records=(record,), ignore=("GHSA-1:not used:2025-12-31",))
    (suppression,) = found["results"][0]["suppressions"]
    assert suppression["justification"] == "not used (until 2025-12-31)"


def test_texts_have_no_meaning_in_sarif() -> None:
    record = advisory("X", "demo", {"introduced": "0"}, summary="[link](1) {0} \x1b[31m \\ \u202e")
    found = run(source(), records=(record,))
    text = found["results"][0]["message"]["text"]
    assert r"\[link\](1) {{0}}  \\ \\u202e" in text
    assert "helpUri" not in found["tool"]["driver"]["rules"][0]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("https://example.org/a b.tar.gz?x=1", "https://example.org/a%20b.tar.gz?x=1"),
        ("a:b.tar.gz", "a%3Ab.tar.gz"),
        ("standard input", "standard%20input"),
        ("/x/\udcff", "file:///x/%FF"),
    ],
)
def test_places_are_uris(path: str, uri: str) -> None:
    found = run(source(path), records=(advisory("X", "demo", {"introduced": "0"}),))
    assert found["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_an_environment_that_can_not_be_read_is_no_success() -> None:
    (invocation,) = run(Source("/x", None, "no permission"))["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "no permission" in invocation["toolExecutionNotifications"][0]["message"]["text"]
    assert run(source())["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
