"""Whatever a command that changes a deployment is stopped at, or fails at, nothing is lost and nothing half-done
is there: a sample of what ``make test-faults`` tries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from faults import samples
from faults.scenarios import SCENARIOS
from support.namespaces import namespace

SOME = [
    "upgrade, prune",
    "upgrade, test fails",
    "roll back",
    "move",
    "move elsewhere",
    "remove",
    "repair",
    "unpack",
    "first activation",
    "no exchange, upgrade",
    "store, upgrade",
]
FAULTS = Path(samples.__file__).parent


@pytest.mark.parametrize(
    "tried",
    [SOME, pytest.param([scenario.name for scenario in SCENARIOS], marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_killed_or_failing_anywhere_it_is_the_old_one_or_the_new_one(tried: list[str]) -> None:
    only = [word for name in tried for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(FAULTS / "harness.py"), "--sample", "36", "--jobs", "1", *only],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    *_, points, _, violations, _, _, _ = done.stdout.splitlines()[-1].split()
    assert int(points) >= len(tried) - 1 and violations == "0", done.stdout  # one needs a second filesystem


@pytest.mark.parametrize(("step", "least"), [(7, 2), pytest.param(1, 6, marks=pytest.mark.long)])
def test_a_disk_that_is_really_full_leaves_the_old_one(tmp_path: Path, step: int, least: int) -> None:
    way = namespace()
    (tmp_path / "disk").mkdir()
    samples.make_bundles(tmp_path)
    command = [
        *way,
        sys.executable,
        str(FAULTS / "full_disk.py"),
        str(tmp_path / "disk"),
        str(tmp_path),
        str(step),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [wrong for _, wrong in results.values()] == [[], []]
    assert all(failures >= least for failures, _ in results.values()), results
