"""The result of an audit in the format SARIF, which services for code review show.

Sources: "Static Analysis Results Interchange Format (SARIF) Version 2.1.0" of OASIS, whose sections are cited, and
GitHub's "SARIF support for code scanning" for ``security-severity`` and for the line that a location must have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from envpack.audit.cvss import LOWEST, rating
from envpack.audit.matching import KNOWN, Vulnerability
from envpack.audit.report import Audit, Audited, Finding
from envpack.runtime.report import escape
from envpack.runtime.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "unknown": "warning"}


def sarif(audit: Audit) -> bytes:
    """Return an audit as a SARIF document, JSON that ends with a line break."""
    rules = {
        finding.vulnerability.id: finding.vulnerability
        for environment in audit.environments
        for finding in environment.findings
    }
    places = {id: place for place, id in enumerate(rules)}
    failed = [environment for environment in audit.environments if environment.problem]
    run = {
        "tool": {
            "driver": {
                "name": "envpack audit",
                "semanticVersion": __version__,
                "rules": [_rule(found) for found in rules.values()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not failed,
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "message": {"text": _text(f"{environment.path} can't be audited: {environment.problem}")},
                    }
                    for environment in failed
                ],
            }
        ],
        "results": list(_results(audit, places)),
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1).encode() + b"\n"


def _rule(found: Vulnerability) -> dict[str, Any]:
    properties: dict[str, Any] = {"tags": ["security"]}
    score = _score(found)
    if score is not None:
        properties["security-severity"] = f"{score:.1f}"
    title = f"{found.id}: {found.summary}" if found.summary else found.id
    also = f" Also named {', '.join(found.aliases)}." if found.aliases else ""
    record = found.records[0]
    page = (
        {"helpUri": f"https://osv.dev/vulnerability/{quote(record, safe='')}"} if record.startswith(KNOWN) else {}
    )
    return {
        "id": found.id,
        "shortDescription": {"text": _text(title)},
        "fullDescription": {"text": _text(f"{title.rstrip('.')}.{also}")},
        **page,
        "defaultConfiguration": {"level": _level(found)},
        "properties": properties,
    }


def _level(found: Vulnerability) -> str:
    return "error" if found.malicious else _LEVELS[found.severity]


def _score(found: Vulnerability) -> float | None:
    """Return a score of the severity that the advisories state: that of the vector, or the lowest one of it."""
    if found.malicious:
        return 10.0
    if found.score is not None and rating(found.score) == found.severity:
        return found.score
    return LOWEST.get(found.severity)


def _results(audit: Audit, places: dict[str, int]) -> Iterator[dict[str, Any]]:
    for environment in audit.environments:
        for finding in environment.findings:
            found, own = finding.vulnerability, finding.distribution
            identity = f"{found.id}/{finding.package.name}/{own.name}/{own.version}"
            yield {
                "ruleId": found.id,
                "ruleIndex": places[found.id],
                "level": _level(found),
                "message": {"text": _text(_message(environment, finding))},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": _uri(environment.path)},
                            "region": {"startLine": 1},
                        },
                        "logicalLocations": [
                            {
                                "fullyQualifiedName": f"{finding.package.name}/{own.name}@{own.version}",
                                "kind": "module",
                            }
                        ],
                    }
                ],
                "partialFingerprints": {"envpackVulnerability/v1": identity},
                **_suppressions(finding),
            }


def _message(environment: Audited, finding: Finding) -> str:
    found, own = finding.vulnerability, finding.distribution
    inside = f" in the conda package {finding.package.name} {finding.package.version}"
    what = "is malicious" if found.malicious else f"has the vulnerability {found.id}"
    parts = [
        f"{own.name} {own.version}{inside if finding.package.kind == 'conda' else ''}, "
        f"of {environment.name} {environment.version}, {what}",
        found.summary,
        f"Fixed in {found.fixed}" if found.fixed else "No fixed version is known",
    ]
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def _suppressions(finding: Finding) -> dict[str, Any]:
    """Return the suppressions (3.27.23): the whole audit has none, or each result states its own."""
    if finding.ignored is None:
        return {"suppressions": []}
    justification = f"{finding.ignored.reason} (until {finding.ignored.until.isoformat()})"
    return {"suppressions": [{"kind": "external", "status": "accepted", "justification": justification}]}


def _text(text: str) -> str:
    """Return text without a meaning in SARIF: braces (3.11.5), and brackets of links (3.11.6)."""
    escaped = escape(text).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return escaped.replace("{", "{{").replace("}", "}}")


def _uri(path: str) -> str:
    """Return the URI of an environment (RFC 3986); relative for a relative path, as code review needs it."""
    if "://" in path:
        return quote(path, safe="/:@?&=%+,;~!$'()*#", errors="surrogateescape")
    if Path(path).is_absolute():
        return f"file://{quote(path, errors='surrogateescape')}"
    return quote(path, errors="surrogateescape")
