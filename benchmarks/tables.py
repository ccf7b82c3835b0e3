"""Results as tables: for a terminal of 80 columns, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

TITLES = {
    "pack": "packing for the first time",
    "warm": "packing again",
    "deploy": "deploying",
    "upgrade": "upgrading",
    "settle": "writing the prefix",
    "look": "inspecting a bundle",
}

COLUMNS = ("s", "rounds", "ratio", "CPU s", "MB", "all MB", "size MB")
MEANING = """`s` is the median of the rounds in seconds. `CPU s` is user and system time together. `MB` is the
largest resident memory of any one process, and `all MB` that of all processes together, with shared
memory counted once. `size MB` is the size of the output. `ratio` is the time of the other program divided
by the time of this row, so a larger ratio is faster. The other program is conda-pack with default options
for packing, `cp -a` for deploying and `cp -al` for upgrading."""


def measured(result: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return the groups, each with a row for each case: its name, then COLUMNS."""
    cases, done = result["cases"], []
    seconds = {case["name"]: case["seconds"] for case in cases}
    for group, title in TITLES.items():
        rows = []
        for case in cases:
            if case["group"] != group:
                continue
            ratio = ""
            if case["against"] in seconds:
                ratio = f"{seconds[case['against']] / case['seconds']:.2f}"
            low, high = min(case["rounds"]), max(case["rounds"])
            rows.append(
                [
                    *(case["name"], _seconds(case["seconds"]), f"{_seconds(low)}-{_seconds(high)}", ratio),
                    *(_seconds(case["cpu"]), _mega(case["memory"]), _mega(case["tree"])),
                    _mega(case["size"]) if case["size"] else "",
                ]
            )
        if rows:
            done.append((title, rows))
    return done


def reached(result: dict[str, Any]) -> list[list[str]]:
    """Return a row for each target: number, what, target, measured, met or missed."""
    return [
        [str(row["number"]), row["what"], row["target"], row["measured"], "met" if row["met"] else "missed"]
        for row in result["targets"]
    ]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, with words aligned to the left and figures to the right."""
    aligned = ["---" if number == 0 or name in ("", "what") else "--:" for number, name in enumerate(head)]
    lines = [head, aligned, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


SCALING = ("files", "GB", "pack s", "MB", "deploy s", "MB", "inspect s", "MB", "per unit")
UNITS = {"by_files": ("files", "µs/file"), "by_size": ("size", "s/GB")}
SCALING_MEANING = """The last column shows the time for each file or GB more than in the first
environment: for packing, then for deploying."""


def scaling(result: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return the series, each with a row for each environment: SCALING."""
    done = []
    for series, (unit, shown) in UNITS.items():
        points, rows = result[series], []
        for point in points:
            per = ""
            if point[unit] > points[0][unit]:
                factor = (1e6 if unit == "files" else 1e9) / (point[unit] - points[0][unit])
                more = [
                    (point[name]["seconds"] - points[0][name]["seconds"]) * factor for name in ("pack", "deploy")
                ]
                per = f"{more[0]:.3g}, {more[1]:.3g}"
            cells = (
                (_seconds(point[name]["seconds"]), _mega(point[name]["memory"]))
                for name in ("pack", "deploy", "inspect")
            )
            flat = [cell for pair in cells for cell in pair]
            rows.append([f"{point['files']:,}", f"{point['size'] / 1e9:.2f}", *flat, per])
        done.append((f"more {'files' if unit == 'files' else 'bytes'} ({shown})", rows))
    return done


def show(result: dict[str, Any]) -> None:
    """Print a comparison."""
    about = result["environment"]
    _print(f"{about['name']}: {about['size'] / 1e9:.2f} GB, {about['files']:,} files", (), [])
    for title, rows in measured(result):
        _print(title, ("", *COLUMNS), rows)
    _print("targets", TARGETS, reached(result))


def show_scaling(result: dict[str, Any]) -> None:
    """Print a scaling run."""
    for title, rows in scaling(result):
        _print(title, SCALING, rows)
    _print("targets", TARGETS, reached(result))


TARGETS = ("", "what", "target", "measured", "")


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # late: what is measured starts with the memory of this process
    from rich.table import Table

    table = Table(title=title, box=None, title_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        left = number == 0 or column in ("what", "")
        table.add_column(column, no_wrap=True, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=80, highlight=False)
    console.print(table if rows else title)
    console.print()


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _mega(value: float) -> str:
    return f"{value / 1e6:,.0f}" if value >= 1e6 else f"{value / 1e6:.1f}"
