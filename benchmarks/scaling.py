"""Measure the growth of time and memory with files and bytes: packing, deploying and inspecting.

    python benchmarks/scaling.py                                   # some minutes, 5 GB of disk
    python benchmarks/scaling.py --files 1000 50000 200000 --sizes 0.1 5 20 --json FILE --plot FILE.svg

One series has the same bytes in more and more files, the other the same files with more and more bytes. Each
environment is made, measured and removed when the disk needs the room.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aside import Aside, remove
from cases import isolated
from environments import FOLDER, Synthetic, make, survey
from measure import Measured, machine, run, say, stoppable
from tables import show_scaling

FILES = (1000, 5000, 20_000, 50_000)
SIZES = (0.1, 0.5, 1.0, 2.0)
WHAT = ("pack", "deploy", "inspect")

LINEAR = 1.25
"""Target 8: how much more a file or a byte may cost in the largest environment than in the middle one; a quarter
is what one run differs from the next."""


def measure(point: Synthetic, folder: Path, rounds: int, aside: Aside) -> dict[str, Any]:
    """Measure one environment, and return its part of the JSON.

    Args:
        point: The environment.
        folder: The folder for the environment and its bundles.
        rounds: The number of rounds.
        aside: Takes the trees that are no longer needed.
    """
    work = folder / "scaling"
    prefix, bundle, root = work / "environment", work / "bundle.tar.zst", work / "deployed"
    aside.room(point.size * 1e9 * (2 + rounds))
    isolated(work)
    envpack = [sys.executable, "-m", "envpack", "--quiet"]
    commands = {
        "pack": [*envpack, "pack", "-p", str(prefix), "-o", str(bundle), "--no-cache", "--force"],
        "deploy": [*envpack, "deploy", str(bundle), str(root), "--gpu", "none"],
        "inspect": [*envpack, "inspect", str(bundle)],
    }
    try:
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(prefix, point))
        maker.start()  # elsewhere: what is measured starts with the memory of this process
        maker.join()
        runs: dict[str, list[Measured]] = {name: [] for name in WHAT}
        for _ in range(rounds):
            aside.drop(root)
            for name, command in commands.items():
                runs[name].append(run(command))
        found: dict[str, Any] = {**survey(prefix), "bundle": bundle.stat().st_size}
    finally:
        aside.drop(work)
    for name, of in runs.items():
        found[name] = {
            "seconds": statistics.median(each.seconds for each in of),
            "cpu": statistics.median(each.user + each.system for each in of),
            "memory": max(each.tree for each in of),
            "load": max(each.load for each in of),
        }
    return found


def linear(series: list[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    """Target 8: what a file or byte costs in the last environment, by what it does in the middle one."""
    middle, last, name = series[len(series) // 2], series[-1], _UNITS[unit]
    more, rows = last[unit] / middle[unit], []
    for work in ("pack", "deploy"):
        slower = last[work]["seconds"] / middle[work]["seconds"]
        larger = last[work]["memory"] / middle[work]["memory"]
        rows.append(_row(f"{work}: time per {name}, last by middle", slower / more))
        rows.append(_row(f"{work}: memory by {name}s, last by middle", larger))
    return rows


_UNITS = {"files": "file", "size": "byte"}


def _row(what: str, value: float) -> dict[str, Any]:
    bound = {"number": 8, "what": what, "target": f"<= {LINEAR:.2f}"}
    return {**bound, "measured": f"{value:.2f}", "value": value, "met": value <= LINEAR}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw seconds and memory over files, and over bytes; the suffix selects the format of the picture."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        say("no plot, because matplotlib is not installed: pip install --group bench")
        return
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "envpack"
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    for column, (series, unit, scale, label) in enumerate(
        (("by_files", "files", 1e3, "thousand files"), ("by_size", "size", 1e9, "GB"))
    ):
        points = result[series]
        across = [point[unit] / scale for point in points]
        for name in WHAT:
            axes[0][column].plot(across, [point[name]["seconds"] for point in points], "o-", label=name)
            axes[1][column].plot(across, [point[name]["memory"] / 1e6 for point in points], "o-", label=name)
        axes[1][column].set_xlabel(label)
        for row, unit_name in enumerate(("seconds", "MB of memory")):
            axes[row][column].set_ylim(bottom=0)
            axes[row][column].set_xlim(left=0)
            axes[row][column].grid(alpha=0.3)
            if column == 0:
                axes[row][column].set_ylabel(unit_name)
    axes[0][0].legend()
    figure.savefig(path, metadata={"Date": None})


def _series(points: Iterable[Synthetic], folder: Path, rounds: int, aside: Aside) -> list[dict[str, Any]]:
    done = []
    for point in points:
        say(f"{point.files:,} files, {point.size:g} GB ...")
        done.append(measure(point, folder, rounds, aside))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=FILES, help="numbers of files, --size GB each")
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="sizes in GB, --count files each")
    parser.add_argument("--size", type=float, default=0.2, help="size in GB for --files")
    parser.add_argument("--count", type=int, default=2000, help="number of files for --sizes")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="directory to create environments in")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument("--plot", type=Path, help="write a plot to this .svg file; needs matplotlib")
    arguments = parser.parse_args()
    stoppable()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    remove(folder / "scaling")
    aside = Aside(folder / "aside")
    of_files = [Synthetic(size=arguments.size, files=files) for files in arguments.files]
    of_sizes = [Synthetic(size=size, files=arguments.count) for size in arguments.sizes]
    result: dict[str, Any] = {"machine": machine(folder)}
    try:
        result["by_files"] = _series(of_files, folder, arguments.rounds, aside)
        result["by_size"] = _series(of_sizes, folder, arguments.rounds, aside)
    finally:
        remove(folder / "aside")
    result["targets"] = linear(result["by_files"], "files") + linear(result["by_size"], "size")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show_scaling(result)
    if arguments.plot:
        plot(result, arguments.plot)


if __name__ == "__main__":
    main()
