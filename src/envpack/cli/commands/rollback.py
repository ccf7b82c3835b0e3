"""``envpack rollback``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Deployed, Wait, option
from envpack.cli.text import escape

if TYPE_CHECKING:
    from envpack.runtime.commands.rollback import RolledBack


def rollback(
    console: Console,
    destination: Deployed,
    to: Annotated[
        int | None,
        option("--to", metavar="N", help="The generation. [default: the one before]"),
    ] = None,
    wait: Wait = False,
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

    done = run(destination, to=to, reporter=console.reporter, wait=wait)
    return Result("rollback", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: RolledBack) -> None:
    out = console.out
    title = out.style(escape(f"{done.name} {done.version}"), "1")
    if done.replaced == done.generation:
        out.write(f"{title}, generation {done.generation}, is what {escape(done.destination)} is already")
        return
    out.write(f"{title}, generation {done.generation}, is at {escape(done.destination)}")
    if done.replaced is not None:
        out.write(f"generation {done.replaced} is kept; switch to it with:")
        destination = escape(shlex.quote(done.destination))
        out.write(out.style(f"  envpack rollback {destination} --to {done.replaced}", "36"))
