"""envpack side by side with conda-pack, tar and cp on one environment, in one run.

    python benchmarks/compare.py A [--rounds 3] [--only PATTERN] [--json FILE]
    python benchmarks/compare.py synthetic --size 0.5 --files 20000
    python benchmarks/compare.py ~/miniforge3/envs/mine

What is measured alternates within a round, and the disk is synced before each: machines and disks drift, so that
only times of one run compare. Ratios are the peer's time by envpack's. Your own environment is only read, but for
one small pip package: its files are written anew to measure what packing again takes, and put back at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aside import Aside, remove
from cases import PEERS, Case, Plan, isolated
from change import Change
from environments import FOLDER, RECIPES, add_options, named, survey
from measure import Measured, machine, run, say, stoppable
from targets import rows

HIGH = 9
"""zstd's level with which envpack's bundle is about as large as conda-pack's .tar.zst, of level 9 as well."""


Figures = dict[str, dict[str, Any]]


def measure(plan: Plan, size: int, rounds: int, slow_rounds: int, only: Sequence[str]) -> Iterator[Figures]:
    """Yield the results so far, by the name of the case, after each measurement.

    Args:
        plan: The parameters of the run.
        size: The size of the environment in bytes.
        rounds: The number of rounds.
        slow_rounds: The number of rounds with the slow cases of conda-pack.
        only: Patterns of names of cases to measure.
    """
    done: dict[str, list[tuple[Case, Measured, int]]] = {}
    aside = Aside(plan.work / "aside")
    for number in range(rounds):
        for case in plan.cases():
            if number >= slow_rounds and case.name in PEERS[1:]:
                continue
            if not any(fnmatchcase(case.name, pattern) for pattern in only):
                continue
            if case.needs and shutil.which(case.needs) is None:
                continue
            if case.output is not None:
                aside.drop(case.output)
            aside.room(1.5 * size)
            case.before()
            read(plan.prefix)
            measured = run(case.command, case.environ, case.accepted)
            made = case.output.stat().st_size if case.output is not None and case.output.is_file() else 0
            say(f"round {number + 1} of {rounds}: {case.name}: {measured.seconds:.2f} s")
            done.setdefault(case.name, []).append((case, measured, made))
            for path in case.drops:
                aside.drop(path)
            yield {name: _figures(runs) for name, runs in done.items()}


def read(prefix: Path) -> None:
    """Read all files of an environment, so that they are in the page cache if it is large enough."""
    room = memoryview(bytearray(1 << 20))
    for folder, _, names in os.walk(prefix):
        for path in (os.path.join(folder, name) for name in names):  # noqa: PTH118
            if not os.path.islink(path):  # noqa: PTH114
                with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                    while file.readinto(room):
                        pass


def _figures(runs: list[tuple[Case, Measured, int]]) -> dict[str, Any]:
    case, last, size = runs[-1]
    of = [measured for _, measured, _ in runs]
    figures: dict[str, Any] = {
        **{"name": case.name, "group": case.group, "against": case.against},
        "seconds": statistics.median(each.seconds for each in of),
        "cpu": statistics.median(each.user + each.system for each in of),
        "user": statistics.median(each.user for each in of),
        "system": statistics.median(each.system for each in of),
        **{"memory": max(each.memory for each in of), "tree": max(each.tree for each in of)},
        **{"read": max(each.read for each in of), "size": size},
        **{"rounds": [each.seconds for each in of], "load": [each.load for each in of]},
    }
    if "--json" in case.command and case.group == "upgrade":
        figures["bundle_read"] = json.loads(last.said)["result"]["read"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help=f"{', '.join(RECIPES)}, synthetic, or the path of an environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, help="rounds of conda-pack with -j [default: --rounds]")
    parser.add_argument("--only", action="append", help="run only the cases that match this glob; can be repeated")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--high", type=int, default=HIGH, help="zstd level at which a bundle is as small as conda-pack's"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help="work directory, with space for 6 copies, better 20",
    )
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    add_options(parser)
    arguments = parser.parse_args()
    stoppable()
    folder = arguments.folder.resolve()
    if arguments.what in (*RECIPES, "synthetic"):
        prefix = named(arguments.what, folder / "environments", arguments)
    else:
        prefix = Path(arguments.what).resolve()
    work = folder / "work"
    remove(work)
    work.mkdir(parents=True)
    isolated(work)
    about: dict[str, Any] = {
        "environment": {"name": prefix.name, **survey(prefix)},
        "machine": machine(folder),
        "high": arguments.high,
    }
    result = about
    slow = arguments.rounds if arguments.slow_rounds is None else arguments.slow_rounds
    try:
        with Change(prefix) as change:
            plan = Plan(prefix, work, arguments.jobs, arguments.high, change)
            size = about["environment"]["size"]
            for figures in measure(plan, size, arguments.rounds, slow, arguments.only or ["*"]):
                result = about | {"cases": list(figures.values()), "targets": rows(figures, arguments.high)}
                if arguments.json:  # each time: whoever stops it has what was measured
                    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finally:
        remove(work)
    from tables import show

    if result is not about:
        show(result)


if __name__ == "__main__":
    main()
