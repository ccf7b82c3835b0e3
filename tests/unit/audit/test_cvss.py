"""Base scores of CVSS v3, compared with those that FIRST's calculator and published advisories give."""

from __future__ import annotations

import pytest

from envpack.audit.cvss import base_score, rating

SCORES = {
    "AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H": 9.8,
    "AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H": 10.0,
    "AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H": 7.5,
    "AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N": 6.1,
    "AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H": 8.8,
    "AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H": 7.8,
    "AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H": 9.9,
    "AV:N/AC:L/PR:H/UI:N/S:C/C:H/I:H/A:H": 9.1,
    "AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N": 3.1,
    "AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:L/A:N": 2.7,
    "AV:A/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N": 0.0,
}


@pytest.mark.parametrize(("metrics", "expected"), SCORES.items())
@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_scores(version: str, metrics: str, expected: float) -> None:
    assert base_score(f"CVSS:{version}/{metrics}") == expected
    assert base_score(f"CVSS:{version}/{metrics}/E:P/RL:O/MAV:L") == expected


@pytest.mark.parametrize(
    "vector",
    [
        "",
        "9.8",
        "AV:N/AC:L/Au:N/C:P/I:P/A:P",
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H",
        "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ],
)
def test_other_texts_have_no_score(vector: str) -> None:
    assert base_score(vector) is None


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        *((0.0, "low"), (0.1, "low"), (3.9, "low"), (4.0, "medium"), (6.9, "medium")),
        *((7.0, "high"), (8.9, "high"), (9.0, "critical"), (10.0, "critical")),
    ],
)
def test_ratings(score: float, expected: str) -> None:
    assert rating(score) == expected
