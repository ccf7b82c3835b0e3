"""Files that another user plants in a shared folder do no harm: a sample of ``make test-planted``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from faults import planted


@pytest.mark.parametrize("victim", ["root", "user"])
def test_what_another_user_planted_is_not_followed(victim: str) -> None:
    reason = planted.why_not(0) or (planted.why_not(planted.VICTIM) if victim == "user" else "")
    if reason:
        pytest.skip(reason)
    command = [sys.executable, str(Path(planted.__file__)), "--sample", "4", "--victims", victim]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = done.stdout.splitlines()[-1].split()[0]
    assert int(tried) >= 4, done.stdout
