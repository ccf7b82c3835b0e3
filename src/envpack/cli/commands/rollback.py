"""``envpack rollback``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import AnyParent, Deployed, Wait, option
from envpack.cli.text import escape

if TYPE_CHECKING:
    from envpack.runtime.commands.rollback import RolledBack


def rollback(
    console: Console,
    destination: Deployed,
    to: Annotated[
        int | None,
        option("--to", metavar="N", help="Generation to switch to. [default: the previous one]"),
    ] = None,
    wait: Wait = False,
    allow: AnyParent = None,
) -> Result:
    """Switch DEST back to a previous generation.

    Nothing is unpacked or rewritten: the two trees are exchanged in one atomic step. The current generation
    becomes a previous one, and --to can switch to it again. Processes that run from it continue. 'envpack history'
    lists the generations.

    \b
    Examples:
      envpack rollback /opt/envs/demo
      envpack rollback /opt/envs/demo --to 3
    """
    from envpack.runtime.commands.rollback import rollback as run

    done = run(destination, to=to, reporter=console.reporter, wait=wait, any_parent=allow is not None)
    return Result("rollback", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: RolledBack) -> None:
    if console.quiet:
        return
    out = console.out
    title = out.style(escape(f"{done.name} {done.version}"), "1")
    if done.replaced == done.generation:
        out.write(f"{title}, generation {done.generation}, is already at {escape(done.destination)}")
        return
    out.write(f"{title}, generation {done.generation}, is at {escape(done.destination)}")
    if done.replaced is not None:
        out.write(f"switch to generation {done.replaced} again with:")
        destination = escape(shlex.quote(done.destination))
        out.write(out.style(f"  envpack rollback {destination} --to {done.replaced}", "36"))
