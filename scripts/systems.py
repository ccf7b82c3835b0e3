#!/usr/bin/env python3
"""Take systems of envspecs/ through their whole life on this machine, with their services in examples/systems/.

Builds, packs, checks, deploys and tests each, starts its service with a tiny model on the CPU, queries it, reads
its metrics, changes its code and a package while it runs, rolls back and stops it; the figures go into the table
of envspecs/README.md. Channels and bundles are kept for the next run.

    scripts/systems.py build/systems pytorch-serving --python /usr/bin/python3.10
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from system_trial.known import SYSTEMS
from system_trial.life import live
from system_trial.workshop import REPOSITORY, Figures, StepError, Workshop

TABLE = REPOSITORY / "envspecs/README.md"
HEADINGS = (
    "system",
    "bundle",
    "installed",
    "build",
    "deploy and tests",
    "check",
    "ready",
    "answer",
    "metrics",
    "page",
    "code change",
    "package change",
    "upgrades, rollback, stop",
    "machine",
)


def write_table(rows: Mapping[str, Mapping[str, str]]) -> None:
    """Put the rows into the table, in place of earlier ones of the same systems; unknown columns are dropped."""
    text = TABLE.read_text(encoding="utf-8")
    begin, end = text.index("| system |"), text.index("<!-- end of the table -->")
    headings, _, *lines = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text[begin:end].splitlines()
    )
    known = {cells[0]: dict(zip(headings, cells, strict=False)) for cells in lines}
    known.update({name: {"system": name, **cells} for name, cells in rows.items()})
    wanted = (known[name] for name in SYSTEMS if name in known)
    cells = [HEADINGS, *(tuple(row.get(heading, "") for heading in HEADINGS) for row in wanted)]
    head, *body = ("| " + " | ".join(row) + " |" for row in cells)
    table = "\n".join([head, "|" + "---|" * len(HEADINGS), *body])
    TABLE.write_text(f"{text[:begin]}{table}\n{text[end:]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="the folder for the channel, the bundles and the deployments")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SYSTEMS)} (default: all)")
    parser.add_argument(
        "--python", type=Path, required=True, help="a CPython 3.10, the version that the specs name"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_intermixed_args()
    if unknown := set(options.names) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    workshop = Workshop(options.root.absolute(), options.python, options.jobs)
    workshop.root.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, str]] = {}
    failed = False
    for name in options.names or SYSTEMS:
        print(name, flush=True)
        figures = Figures()
        try:
            live(name, SYSTEMS[name], workshop, figures)
        except (StepError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"{name} failed: {error}", file=sys.stderr)
            continue
        rows[name] = figures.cells
        write_table({name: figures.cells})
    return failed


if __name__ == "__main__":
    sys.exit(main())
