"""The script that lists the rows of the tables that have to be looked up again."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

from check_tables import old_rows

SCRIPT = Path(__file__).parents[4] / "scripts/check_tables.py"


def test_rows_older_than_half_a_year_are_listed(tmp_path: Path) -> None:
    rows = [
        {"cuda": "12.0", "driver": "525", "source": "https://one.example", "date": "2026-01-01"},
        {"cuda": "13.0", "driver": "580", "source": "https://two.example", "date": "2026-07-01"},
    ]
    (tmp_path / "cuda.json").write_text(json.dumps({"about": "toolkits", "toolkits": rows}))
    assert not list(old_rows(tmp_path, date(2026, 7, 3)))
    (line,) = old_rows(tmp_path, date(2026, 7, 4))
    assert line == "cuda.json toolkits: 2026-01-01 cuda 12.0: https://one.example"


def test_the_exit_status_says_whether_there_are_such_rows() -> None:
    for today, status in (("2026-11-27", 0), ("2036-01-01", 1)):
        done = subprocess.run([sys.executable, SCRIPT, "--today", today], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (status, "")
        assert done.stdout
