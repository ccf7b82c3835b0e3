"""The record of starts, whatever somebody wrote there."""

from __future__ import annotations

from typing import Any

import pytest

from envpack.runtime.metrics.starts import Starts, parse_starts


def test_a_record() -> None:
    document = {"starts": 3, "last_start": 1795758317.5, "pid": 12, "ready_seconds": 4.25, "later": []}
    assert parse_starts("serve", document) == Starts("serve", 3, 1795758317.5, 4.25)
    assert parse_starts("serve", {**document, "ready_seconds": None}).ready is None


@pytest.mark.parametrize(
    "value", [None, True, "3", [3], {}, -1, float("nan"), float("inf"), -0.5], ids=lambda value: repr(value)
)
def test_what_is_no_number_is_not_known(value: Any) -> None:
    document = {"starts": value, "last_start": value, "ready_seconds": value}
    assert parse_starts("serve", document) == Starts("serve", None, None, None)


def test_a_number_that_no_float_can_hold() -> None:
    found = parse_starts("serve", {"starts": 1.5, "last_start": 10**400, "ready_seconds": 10**400})
    assert found == Starts("serve", None, None, None)


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_no_object(document: Any) -> None:
    with pytest.raises(ValueError, match="not an object"):
        parse_starts("serve", document)
