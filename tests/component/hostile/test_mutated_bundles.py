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


def test_mutants_are_refused_or_deployed_as_they_say(tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for seed in range(400):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ends[try_one(seed, folder)] += 1
    assert ends["refused"] > 200 and ends["deployed"] > 10


def test_what_is_changed_is_sound_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.bundle_fuzzer.mutant", lambda seed: Forgery(RICH[len(SOUND) :]))
    assert try_one(0, tmp_path) == "deployed"
