"""envpack side by side with conda-pack, tar and cp on one environment, in one run.

    python benchmarks/compare.py PREFIX [--rounds 3] [--work DIR] [--json FILE]

Prints the median wall time, the largest resident memory of any one process and the size of what was made, and the
ratio to conda-pack's default (packing) or to ``cp -a`` (deploying). Rounds alternate between the programs; the
disk is synced before each. Times say nothing alone: machines and disks drift, so compare within a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Case:
    """``command`` with what it makes (``output``, removed before a round); ``against``: a case to compare with."""

    name: str
    command: list[str]
    output: Path
    against: str
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    size: int = 0


def cases(prefix: Path, work: Path) -> list[Case]:
    """Packing first: what it makes is deployed afterwards."""
    python = [sys.executable, "-m"]
    condapack = [*python, "conda_pack.cli", "-q", "-p", str(prefix), "--ignore-missing-files"]
    envpack = [*python, "envpack", "--quiet"]
    pack = [*envpack, "pack", "-p", str(prefix)]
    gz, zst, theirs = work / "envpack.tar.gz", work / "envpack.tar.zst", work / "condapack.tar.gz"
    plain = f"mkdir {work / 'plain'} && tar -xzf {theirs} -C {work / 'plain'}"
    unpack = f"PATH={work / 'plain'}/bin:$PATH {work / 'plain'}/bin/conda-unpack"
    return [
        Case("conda-pack .tar.gz", [*condapack, "-o", str(theirs)], theirs, ""),
        Case("envpack .tar.gz", [*pack, "-o", str(gz)], gz, "conda-pack .tar.gz"),
        Case("envpack .tar.zst", [*pack, "-o", str(zst)], zst, "conda-pack .tar.gz"),
        Case("cp -a", ["cp", "-a", str(prefix), str(work / "copy")], work / "copy", ""),
        Case("tar + conda-unpack", ["sh", "-c", f"{plain} && {unpack}"], work / "plain", "cp -a"),
        Case("envpack deploy gz", [*envpack, "deploy", str(gz), str(work / "gz")], work / "gz", "cp -a"),
        Case("envpack deploy zst", [*envpack, "deploy", str(zst), str(work / "zst")], work / "zst", "cp -a"),
        Case("envpack inspect", [*envpack, "inspect", str(gz)], work / "none", ""),
    ]


def run(case: Case) -> None:
    """One round of one case; SystemExit with the program's own words when it fails."""
    remove(case.output)
    os.sync()
    started = time.monotonic()
    process = subprocess.Popen(case.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{case.name} failed:\n{said.decode(errors='replace')}")
    case.seconds.append(time.monotonic() - started)
    case.memory.append(usage.ru_maxrss * 1024)  # kilobytes on Linux, getrusage(2)
    case.size = case.output.stat().st_size if case.output.is_file() else 0


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def table(done: list[Case]) -> str:
    """The results as a Markdown table."""
    medians = {case.name: statistics.median(case.seconds) for case in done}
    lines = ["| what | s | ratio | memory, MB | size, MB |", "|---|---|---|---|---|"]
    for case in done:
        ratio = f"{medians[case.against] / medians[case.name]:.1f}x {case.against}" if case.against else ""
        size = f"{case.size / 1e6:.0f}" if case.size else ""
        lines.append(
            f"| {case.name} | {medians[case.name]:.1f} | {ratio} | {max(case.memory) / 1e6:.0f} | {size} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", type=Path, help="an environment; it is only read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--work", type=Path, default=Path("build/bench"), help="a folder with room for five copies"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    prefix, work = arguments.prefix.resolve(), arguments.work.resolve()
    remove(work)
    work.mkdir(parents=True)
    todo = cases(prefix, work)
    try:
        for number in range(arguments.rounds):
            for case in todo:
                print(f"round {number + 1} of {arguments.rounds}: {case.name}", file=sys.stderr)
                run(case)
    finally:
        remove(work)
    print(f"{prefix.name}: {len(os.sched_getaffinity(0))} cores, {platform.platform()}\n")
    print(table(todo))
    if arguments.json:
        figures = [
            {"name": case.name, "seconds": case.seconds, "memory": case.memory, "size": case.size} for case in todo
        ]
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
