"""``envpack history``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envpack.cli.console import Console, Result
from envpack.cli.options import Deployed
from envpack.cli.text import escape, human_date, table
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.deployment.history import History, HistoryEntry


def history(
    console: Console,
    destination: Deployed,
) -> Result:
    """List the generations of a deployment, the newest first.

    The current generation is marked with '*'. 'envpack rollback' switches to one that is listed as kept.

    \b
    Example:
      envpack history /opt/envs/demo
    """
    from envpack.runtime.deployment.history import history as run

    found = run(destination)
    return Result("history", found.as_dict(), lambda console: _show_history(console, found))


def _show_history(console: Console, found: History) -> None:
    out = console.out
    out.write(out.style(escape(found.destination), "1"))
    rows = [_row(item, console.verbose) for item in found.generations]
    for item, line in zip(found.generations, table(rows, out.width), strict=True):
        out.write(out.style(line, "32") if item.state == "current" else line)


def _row(item: HistoryEntry, verbose: bool) -> list[str]:
    tested = {True: "", False: ", not tested", None: ", tests unfinished"}[item.tested]
    if item.generation == 0:
        tested = ", unpacked by tar"
    size = f", {human_size(item.size)}" if item.state == "kept" and item.size is not None else ""
    return [
        "*" if item.state == "current" else " ",
        str(item.generation),
        human_date(item.deployed),
        escape(f"{item.name} {item.version}"),
        f"{item.state}{size}{tested}",
        *([escape(item.bundle)] if verbose else []),
    ]
