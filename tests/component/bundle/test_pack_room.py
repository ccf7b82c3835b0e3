"""Packing needs the room of one bundle, not of two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.environments import Environment
from support.namespaces import namespace

FORCED_PARALLEL = [sys.executable, str(Path(__file__).parents[2] / "support/forced_parallel.py")]
MOVED = 16
"""MB that are there twice for a moment, `envpack.bundle.append`'s step."""


@pytest.mark.parametrize("jobs", [2, pytest.param(1, marks=pytest.mark.long)])
def test_a_disk_with_room_for_little_more_than_the_bundle_is_enough(jobs: int, tmp_path: Path) -> None:
    way = namespace()
    made = Environment(tmp_path / "made")
    for number in range(6):
        made.wheel(f"w{number}", "1", {f"w{number}.bin": os.urandom(10 << 20)})
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size="$1"m none "$2" && shift && cd "$1" && shift && "$@" && stat -c %s x.tar.zst'
    pack = [*FORCED_PARALLEL, "-q", "pack", "-p", str(made.prefix), "-o", "x.tar.zst", "-j", str(jobs)]

    def packed(megabytes: int) -> subprocess.CompletedProcess[str]:
        command = [*way, "sh", "-c", script, "sh", str(megabytes), str(tmp_path / "disk"), *pack]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ENVPACK_CACHE": ""})

    enough, short = packed(60 + MOVED + 4), packed(60)
    assert enough.returncode == 0, enough.stderr
    assert int(enough.stdout.split()[-1]) > 60 << 20
    assert f"processes: {jobs if jobs > 1 else 0}" in enough.stderr
    assert short.returncode == 10 and "No space left on device" in short.stderr
