"""Writes RESULTS.md from what compare.py and scaling.py wrote as JSON.

python benchmarks/results.py A.json B.json scaling.json [--note TEXT] [--plot scaling.svg] -o RESULTS.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import COLUMNS, MEANING, SCALING, SCALING_MEANING, TARGETS, markdown, measured, reached, scaling

ABOUT = (
    "Written by `benchmarks/results.py`. [docs/performance.md](../docs/performance.md) describes how to measure, "
    "and what limits each operation."
)


def document(results: list[dict[str, Any]], notes: list[str], plot: str) -> str:
    """Return the page of results: the machine, then the targets and tables of each result.

    Args:
        results: The results, from the JSON of each run.
        notes: Paragraphs to add at the top.
        plot: The name of the picture of the scaling run.
    """
    machine = results[0]["machine"]
    parts = ["# Benchmark results", ABOUT, *notes]
    parts.append(markdown(("machine", ""), [(name, value) for name, value in machine.items()]))
    for result in results:
        parts += _scaling(result, plot) if "by_files" in result else _comparison(result)
    return "\n\n".join(parts) + "\n"


def _comparison(result: dict[str, Any]) -> list[str]:
    about = result["environment"]
    loads = [load for case in result["cases"] for load in case["load"]]
    parts = [
        f"## {about['name']}: {about['size'] / 1e9:.2f} GB, {about['files']:,} files",
        f"{result['machine']['date']}; load average of the machine before each measurement, which includes "
        f"earlier measurements: {min(loads):.1f} to {max(loads):.1f}.",
        markdown(TARGETS, reached(result)),
        MEANING,
    ]
    for title, rows in measured(result):
        parts += [f"### {title[0].upper()}{title[1:]}", markdown(("", *COLUMNS), rows)]
    return parts


def _scaling(result: dict[str, Any], plot: str) -> list[str]:
    parts = ["## Scaling", f"{result['machine']['date']}. Synthetic environments, .tar.zst.", SCALING_MEANING]
    parts.append(markdown(TARGETS, reached(result)))
    for title, rows in scaling(result):
        parts += [f"### {title[0].upper()}{title[1:]}", markdown(SCALING, rows)]
    return [*parts, f"![seconds and memory over files and bytes]({plot})"] if plot else parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, nargs="+")
    parser.add_argument("--note", action="append", default=[], help="a paragraph about the run; can be repeated")
    parser.add_argument("--plot", default="", help="path of the plot of the scaling run, relative to the document")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    results = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.json]
    arguments.output.write_text(document(results, arguments.note, arguments.plot), encoding="utf-8")


if __name__ == "__main__":
    main()
