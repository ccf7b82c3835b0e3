"""The base score of CVSS v3 vectors, and the rating of a score.

Source: the "Common Vulnerability Scoring System v3.1: Specification Document" of FIRST, sections 5 (ratings), 7.1
(equations), 7.4 (values of the metrics) and appendix A (rounding). Version 3.0 has the same equations and values.
"""

from __future__ import annotations

from collections.abc import Mapping

LEVELS = ("unknown", "low", "medium", "high", "critical")
"""Ratings of severity, from the lowest; unknown: the advisory states none."""

LOWEST = {"low": 0.1, "medium": 4.0, "high": 7.0, "critical": 9.0}
"""The lowest score of each rating (section 5)."""

_VALUES: Mapping[str, Mapping[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "PR": {"N": 0.85, "L": 0.62, "H": 0.27},
    "UI": {"N": 0.85, "R": 0.62},
    "S": {"U": 0, "C": 1},
    "C": {"H": 0.56, "L": 0.22, "N": 0},
    "I": {"H": 0.56, "L": 0.22, "N": 0},
    "A": {"H": 0.56, "L": 0.22, "N": 0},
}
_PRIVILEGES_IF_CHANGED = {"N": 0.85, "L": 0.68, "H": 0.5}


def base_score(vector: str) -> float | None:
    """Return the base score of a CVSS v3 vector, from 0.0 to 10.0; None for a text that is none.

    Temporal and environmental metrics do not change it.
    """
    version, *parts = vector.strip().split("/")
    metrics = dict(part.partition(":")[::2] for part in parts)
    if version not in ("CVSS:3.0", "CVSS:3.1") or any(
        metrics.get(name) not in values for name, values in _VALUES.items()
    ):
        return None
    value = {name: values[metrics[name]] for name, values in _VALUES.items()}
    changed = metrics["S"] == "C"
    if changed:
        value["PR"] = _PRIVILEGES_IF_CHANGED[metrics["PR"]]
    lost = 1 - (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    if impact <= 0:
        return 0.0
    total = impact + 8.22 * value["AV"] * value["AC"] * value["PR"] * value["UI"]
    return _rounded_up(min(1.08 * total if changed else total, 10))


def _rounded_up(value: float) -> float:
    whole = round(value * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (whole // 10_000 + 1) / 10


def rating(score: float) -> str:
    """Return the rating of a score; 0.0, which the specification calls "none", is low."""
    return next((level for level in reversed(LEVELS[1:]) if score >= LOWEST[level]), "low")
