"""Results as tables: for a terminal of 80 columns, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

TITLES = {
    "pack": "packing, cold",
    "warm": "packing again",
    "deploy": "deploying",
    "upgrade": "deploying the next one",
    "settle": "writing the prefix in",
    "look": "looking at a bundle",
}

COLUMNS = ("s", "rounds", "ratio", "CPU s", "MB", "all MB", "size MB")
MEANING = """`s` is the median of the rounds, in seconds; `CPU s` user and system time together; `MB` the largest
resident memory of any one process, `all MB` of all of them together; `size MB` that of what was made. Ratios are the
time of the first in the table that has none by that of the row: more is faster."""


def measured(result: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """By group, a row for each case: name, then COLUMNS."""
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
    """A row for each target: number, what, target, measured, met or missed."""
    return [
        [str(row["number"]), row["what"], row["target"], row["measured"], "met" if row["met"] else "missed"]
        for row in result["targets"]
    ]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its columns after the first to the right."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(result: dict[str, Any]) -> None:
    """On the terminal."""
    from rich.console import Console  # late: children start with this process's memory
    from rich.table import Table

    console = Console(width=80, highlight=False)
    about = result["environment"]
    console.print(f"{about['name']}: {about['size'] / 1e9:.2f} GB, {about['files']:,} files")
    for title, rows in measured(result):
        _print(console, Table(title=title, box=None, title_justify="left", pad_edge=False), COLUMNS, rows)
    _print(
        console,
        Table(title="targets", box=None, title_justify="left", pad_edge=False),
        ("what", "target", "measured", ""),
        reached(result),
    )


def _print(console: Any, table: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table.add_column("", no_wrap=True)
    for column in columns:
        left = column in ("what", "")
        table.add_column(column, no_wrap=True, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _mega(value: float) -> str:
    return f"{value / 1e6:,.0f}" if value >= 1e6 else f"{value / 1e6:.1f}"
