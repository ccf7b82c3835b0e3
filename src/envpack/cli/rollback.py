"""``envpack rollback`` and ``envpack history``: the deployments that stood in a place before."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envpack.cli.console import Console, Result
from envpack.cli.options import Json, Quiet, Verbose, Wait
from envpack.cli.text import escape, human_date, table
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.rollback import RolledBack
    from envpack.runtime.deployment.history import History, Past


def rollback(
    context: typer.Context,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A deployment.", show_default=False)],
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", help="The generation. [default: the one before]", show_default=False),
    ] = None,
    wait: Wait = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Switch DEST back to the deployment that was there before.

    Nothing is unpacked or rewritten: the two trade places at once, and what is switched away from is kept, so that
    --to switches forth again. Processes that run from it go on. 'envpack history' lists what is kept.

    \b
    Examples:
      envpack rollback /opt/envs/demo
      envpack rollback /opt/envs/demo --to 3
    """
    from envpack.runtime.commands.rollback import rollback as run

    console: Console = context.obj
    done = run(destination, to=to, reporter=console.reporter, wait=wait)
    return Result("rollback", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: RolledBack) -> None:
    out = console.out
    what = out.style(escape(f"{done.name} {done.version}"), "1")
    if done.replaced == done.generation:
        out.write(f"{what}, generation {done.generation}, is what {escape(done.destination)} is already")
        return
    out.write(f"{what}, generation {done.generation}, is at {escape(done.destination)}")
    if done.replaced is not None:
        out.write(f"generation {done.replaced} is kept; switch to it with:")
        place = escape(shlex.quote(done.destination))
        out.write(out.style(f"  envpack rollback {place} --to {done.replaced}", "36"))


def history(
    context: typer.Context,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A deployment.", show_default=False)],
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """List what was deployed to DEST: the newest first, the current one marked.

    Those that are kept can be switched to with 'envpack rollback'.

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


def _row(item: Past, verbose: bool) -> list[str]:
    entry = item.entry
    tested = {True: "", False: ", not tested", None: ", tests unfinished"}[entry.tested]
    if entry.generation == 0:
        tested = ", unpacked by tar"
    size = f", {human_size(item.size)}" if item.state == "kept" and item.size is not None else ""
    return [
        "*" if item.state == "current" else " ",
        str(entry.generation),
        human_date(entry.deployed),
        escape(f"{entry.name} {entry.version}"),
        f"{item.state}{size}{tested}",
        *([escape(entry.bundle)] if verbose else []),
    ]
