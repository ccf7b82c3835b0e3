"""The record of starts, whatever somebody wrote there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.service.starts import Starts, parse_starts, read_starts, record_ready, record_start, starts_of


def test_a_record() -> None:
    document = {"starts": 3, "last_start": 1795758317.5, "pid": 12, "ready_seconds": 4.25, "later": []}
    assert parse_starts("serve", document) == Starts("serve", 3, 1795758317.5, 4.25, 12)
    assert parse_starts("serve", {**document, "ready_seconds": None}).ready is None


@pytest.mark.parametrize(
    "value", [None, True, "3", [3], {}, -1, float("nan"), float("inf"), -0.5], ids=lambda value: repr(value)
)
def test_what_is_no_number_is_not_known(value: Any) -> None:
    document = {"starts": value, "last_start": value, "ready_seconds": value, "pid": value}
    assert parse_starts("serve", document) == Starts("serve")


def test_a_number_that_no_float_can_hold() -> None:
    found = parse_starts("serve", {"starts": 1.5, "last_start": 10**400, "ready_seconds": 10**400})
    assert found == Starts("serve")


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_no_object(document: Any) -> None:
    with pytest.raises(ValueError, match="not an object"):
        parse_starts("serve", document)


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    assert read_starts(tmp_path) == [] and starts_of(tmp_path, "serve") == Starts("serve")
    record_start(tmp_path, "serve", 12, 1500.0004)
    record_start(tmp_path, "serve", 13, 1600.5)
    record_ready(tmp_path, "serve", 2.25)
    record_start(tmp_path, "../serve", 14, 1700)
    assert read_starts(tmp_path) == [Starts("serve", 2, 1600.5, 2.25, 13)] == [starts_of(tmp_path, "serve")]
    (tmp_path / ".envpack/runs/serve.json").write_text("{")
    assert starts_of(tmp_path, "serve") == Starts("serve")
    record_start(tmp_path, "serve", 15, 1800)
    assert starts_of(tmp_path, "serve").count == 1
