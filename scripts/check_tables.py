#!/usr/bin/env python3
"""List the rows of the host tables that were looked up more than half a year ago.

python scripts/check_tables.py [--today YYYY-MM-DD]    exit status 1 when there are such rows
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "src/envpack/runtime/host/data"
HALF_A_YEAR = timedelta(days=183)


def old_rows(data: Path, today: date) -> Iterator[str]:
    """Yield a line for each row that is more than half a year older than ``today``: table, date, row, source."""
    for path in sorted(data.glob("*.json")):
        for name, rows in json.loads(path.read_text(encoding="utf-8")).items():
            for row in rows if name != "about" else ():
                if today - date.fromisoformat(row["date"]) > HALF_A_YEAR:
                    key, value = next(iter(row.items()))
                    yield f"{path.name} {name}: {row['date']} {key} {value}: {row['source']}"


def main() -> int:
    """Print the old rows and return 1, or 0 when there are none."""
    parser = argparse.ArgumentParser(description="List rows of the host tables that are older than half a year.")
    parser.add_argument("--today", type=date.fromisoformat, default=date.today(), help="compare with this date")
    lines = list(old_rows(DATA, parser.parse_args().today))
    print("\n".join(lines) if lines else "every row was checked within half a year")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
