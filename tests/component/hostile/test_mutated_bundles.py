"""Bundles changed at random: refused, or deployed as they say, and the same by both decoders (more: make fuzz)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from support.bundle_fuzzer import RICH, try_one
from support.hostile_bundles import SOUND, Forgery


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(("first", "last"), [(0, 150), pytest.param(150, 400, marks=pytest.mark.long)])
def test_mutants_are_refused_or_deployed_as_they_say(first: int, last: int, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for seed in range(first, last):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ends[try_one(seed, folder)] += 1
    assert ends["refused"] > 75 and ends["deployed"] > 4, ends


def test_what_is_changed_is_sound_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.bundle_fuzzer.mutant", lambda seed: Forgery(RICH[len(SOUND) :]))
    assert try_one(0, tmp_path) == "deployed"
