"""``envpack move``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Wait, argument
from envpack.cli.text import escape, human_time, plural

if TYPE_CHECKING:
    from envpack.runtime.commands.move import Moved


def move(
    console: Console,
    source: Annotated[Path, argument(metavar="FROM", help="A deployment.")],
    destination: Annotated[Path, argument(metavar="TO", help="A folder that is not there, or empty.")],
    wait: Wait = False,
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

    done = run(source, destination, reporter=console.reporter, wait=wait)
    return Result("move", done.as_dict(), lambda console: _show_moved(console, done))


def _show_moved(console: Console, done: Moved) -> None:
    out = console.out
    out.write(f"{out.style(escape(f'{done.name} {done.version}'), '1')} is at {escape(done.destination)}")
    how = "copied from another filesystem, " if done.copied else ""
    out.write(f"  {how}written into {plural(done.rewritten, 'file')}, {human_time(done.seconds)}")
    out.write("activate it with:")
    out.write(out.style(f"  source {escape(shlex.quote(done.destination))}/bin/activate", "36"))
