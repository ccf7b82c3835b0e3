"""``envpack remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import AnyParent, Deployed, Wait, option
from envpack.cli.text import escape, plural
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.remove import Removed


def remove(
    console: Console,
    destination: Deployed,
    force: Annotated[
        bool,
        option("--force", help="Also remove files that were edited or are in no bundle."),
    ] = False,
    wait: Wait = False,
    allow: AnyParent = None,
) -> Result:
    """Remove a deployment and its previous generations.

    DEST is renamed first, and then deleted. If there are files that were edited or are in no bundle, they are
    listed and nothing is removed, unless --force is given.

    \b
    Example:
      envpack remove /opt/envs/demo
    """
    from envpack.runtime.commands.remove import remove as run

    done = run(destination, force=force, reporter=console.reporter, wait=wait, any_parent=allow is not None)
    return Result("remove", done.as_dict(), lambda console: _show_removed(console, done))


def _show_removed(console: Console, done: Removed) -> None:
    if console.quiet:
        return
    previous = len(done.generations) - 1
    more = f" with {plural(previous, 'previous generation')}" if previous > 0 else ""
    console.out.write(f"{escape(done.destination)} was removed{more}: {human_size(done.size)}")
