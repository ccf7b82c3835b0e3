"""The dashboard and the rules in the documents use metrics that there are, by the labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.metrics.families import FAMILIES, PREFIX
from envpack.runtime.metrics.samples import CHECKS, STATES

REPOSITORY = Path(__file__).parents[2]
DASHBOARD = json.loads((REPOSITORY / "examples" / "grafana" / "envpack.json").read_text(encoding="utf-8"))
PAGE = (REPOSITORY / "docs" / "monitoring.md").read_text(encoding="utf-8")

LABELS = {PREFIX + family.name: {"instance", *family.labels} for family in FAMILIES}
"""Prometheus adds ``instance``."""


def expressions(value: Any) -> Iterator[str]:
    """Yield the queries in the dashboard."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("expr", "query") and isinstance(part, str):
                yield part
            yield from expressions(part)
    elif isinstance(value, list):
        for part in value:
            yield from expressions(part)


QUERIES = [query for query in expressions(DASHBOARD) if query != "prometheus"]
RULES = re.findall(r"^ +expr: (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("query", [*QUERIES, *RULES])
def test_a_query_uses_what_there_is(query: str) -> None:
    names = re.findall(r"envpack_\w+", query)
    assert names and set(names) <= set(LABELS)
    for name, selector in re.findall(r"(envpack_\w+)\{(.*?)\}", query):
        assert set(re.findall(r"(\w+)(?==~?\"|!=\")", selector)) <= LABELS[name]
        for state in re.findall(r'state!?=~?"([^"]+)"', selector):
            assert set(state.split("|")) <= set(STATES)


def test_the_dashboard_shows_a_label_only_where_it_is() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            (name,) = set(re.findall(r"envpack_\w+", target["expr"])) - {"envpack_deployment_generation"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) <= LABELS[name]


def test_the_dashboard_is_complete() -> None:
    assert QUERIES and RULES
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", " ".join([*QUERIES, json.dumps(DASHBOARD["panels"])]))) <= variables
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24


def test_the_words_of_states_are_in_their_help() -> None:
    helps = {family.name: family.help for family in FAMILIES}
    assert helps["deployment_state"].endswith(f": {', '.join(STATES)}")
    assert helps["deployment_host_check"].endswith(f": {', '.join(CHECKS)}")
