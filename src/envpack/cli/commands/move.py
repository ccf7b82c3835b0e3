"""``envpack move``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import AnyParent, Wait, argument
from envpack.cli.text import escape, human_time, plural

if TYPE_CHECKING:
    from envpack.runtime.commands.move import Moved


def move(
    console: Console,
    source: Annotated[Path, argument(metavar="FROM", help="Path of a deployment.")],
    destination: Annotated[Path, argument(metavar="TO", help="A new path, or an empty directory.")],
    wait: Wait = False,
    allow: AnyParent = None,
) -> Result:
    """Move a deployment and its previous generations to another path.

    The deployment is renamed, and the new path is written into the files that contain the old one. To another
    filesystem it is copied, and removed from the old path last. Your own files in it move along. If the new path
    is too long for a previous generation, a warning is printed first; 'envpack rollback' can't switch to that
    generation at the new path.

    \b
    Example:
      envpack move /opt/envs/demo /srv/envs/demo
    """
    from envpack.runtime.commands.move import move as run

    done = run(source, destination, reporter=console.reporter, wait=wait, any_parent=allow is not None)
    return Result("move", done.as_dict(), lambda console: _show_moved(console, done))


def _show_moved(console: Console, done: Moved) -> None:
    from envpack.runtime.activation import activation_command

    if console.quiet:
        return
    out = console.out
    out.write(f"{out.style(escape(f'{done.name} {done.version}'), '1')} is at {escape(done.destination)}")
    how = "copied from another filesystem, " if done.copied else ""
    out.write(f"  {how}path written into {plural(done.rewritten, 'file')}, {human_time(done.seconds)}")
    out.write("activate it with:")
    out.write(out.style(f"  {escape(activation_command(done.destination, console.environ))}", "36"))
