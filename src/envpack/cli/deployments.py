"""``envpack list``, ``envpack move`` and ``envpack remove``: the deployments of this host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envpack.cli.console import Console, Result
from envpack.cli.options import Json, Quiet, Verbose, Wait
from envpack.cli.text import escape, human_date, human_time, plural, wrap
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.move import Moved
    from envpack.runtime.commands.remove import Removed
    from envpack.runtime.deployment.listing import Listed


def list_(
    context: typer.Context,
    scan: Annotated[
        list[Path] | None,
        typer.Option(
            "--scan", metavar="ROOT", help="Look for deployments below it, too. Repeatable.", show_default=False
        ),
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """List the deployments of this host: this user's, and root's.

    Each is looked at as it is now: what was deployed, whether this host passed the check, whether its tests
    passed, its size, how much of that is in files that others share (a store), and the previous ones that are
    kept. Deployments that are gone are forgotten. --scan finds those that envpack has not made here itself, such
    as trees that tar unpacked or that were moved, and remembers them.

    \b
    Examples:
      envpack list
      envpack list --scan /opt/envs --scan ~/envs
    """
    from envpack.runtime.deployment.listing import survey
    from envpack.runtime.deployment.registry import register
    from envpack.runtime.deployment.registry import scan as find
    from envpack.runtime.errors import UsageError

    console: Console = context.obj
    for root in scan or ():
        if not root.expanduser().is_dir():
            raise UsageError(f"{root} is no folder to look for deployments in")
        with console.reporter.step(f"Looking below {root}", unit="deployments") as step:
            found = list(find(root.expanduser()))
            for path in found:
                register(path, console.reporter)
            step.detail = plural(len(found), "deployment")
    deployments = list(survey())
    data = {"deployments": [item.as_dict() for item in deployments]}
    return Result("list", data, lambda console: _show(console, deployments))


def _show(console: Console, deployments: Sequence[Listed]) -> None:
    out = console.out
    if not deployments:
        out.write("nothing is deployed here, as far as is known; 'envpack list --scan ROOT' looks for it")
    for item in deployments:
        out.write(out.style(escape(item.path), "1"))
        if item.state == "unreadable":
            out.write(out.style("  can't be read", "33"))
            continue
        entry = item.entry
        state = item.state if item.state == "ok" else out.style(item.state, "33")
        first = f"{entry.name} {entry.version}, generation {entry.generation}, {human_date(entry.deployed)}, "
        for line in wrap(escape(first) + state, out.width, indent="    ", first="  "):
            out.write(line)
        facts = [human_size(item.size) + (f", {human_size(item.shared)} of it shared" if item.shared else "")]
        if item.kept:
            facts.append(f"{plural(len(item.kept), 'previous one')} kept")
        if item.host and item.host != "passed":
            facts.append(f"host {item.host}")
        for line in wrap(escape("; ".join(facts)), out.width, indent="    ", first="  "):
            out.write(line)


def move(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A deployment.", show_default=False)],
    destination: Annotated[
        Path, typer.Argument(metavar="TO", help="A folder that is not there, or empty.", show_default=False)
    ],
    wait: Wait = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Move a deployment, and what is kept of it, to another place.

    It is renamed, and the new place is written into the files that hold the old one; on another filesystem it is
    copied, and removed from the old place last. Files you have put into it move along. Any number of times.
    Previous deployments that have no room for the new path are told of first; 'envpack rollback' can't switch to
    them there.

    \b
    Example:
      envpack move /opt/envs/demo /srv/envs/demo
    """
    from envpack.runtime.commands.move import move as run

    console: Console = context.obj
    done = run(source, destination, reporter=console.reporter, wait=wait)
    return Result("move", done.as_dict(), lambda console: _show_moved(console, done))


def _show_moved(console: Console, done: Moved) -> None:
    out = console.out
    out.write(f"{out.style(escape(f'{done.name} {done.version}'), '1')} is at {escape(done.destination)}")
    how = "copied from another filesystem, " if done.copied else ""
    out.write(f"  {how}written into {plural(done.rewritten, 'file')}, {human_time(done.seconds)}")
    out.write("activate it with:")
    out.write(out.style(f"  source {escape(shlex.quote(done.destination))}/bin/activate", "36"))


def remove(
    context: typer.Context,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A deployment.", show_default=False)],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Even with files that no bundle brought, or edited ones.", show_default=False
        ),
    ] = False,
    wait: Wait = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Remove a deployment, and the previous ones that are kept.

    It is gone at once, and deleted then. Files that no bundle brought, or that were edited, are never removed
    unless --force says so: they are listed, and nothing is touched.

    \b
    Example:
      envpack remove /opt/envs/demo
    """
    from envpack.runtime.commands.remove import remove as run

    console: Console = context.obj
    done = run(destination, force=force, reporter=console.reporter, wait=wait)
    return Result("remove", done.as_dict(), lambda console: _show_removed(console, done))


def _show_removed(console: Console, done: Removed) -> None:
    previous = len(done.generations) - 1
    kept = f", with {plural(previous, 'previous one')}" if previous > 0 else ""
    console.out.write(f"{escape(done.destination)} is removed{kept}: {human_size(done.size)}")
