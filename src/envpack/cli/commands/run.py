"""``envpack run``: a command of a deployment, or any program, with the deployment activated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Deployed, Port, argument, option
from envpack.cli.text import escape, human_time

if TYPE_CHECKING:
    from envpack.runtime.commands.run import Started


def run(
    console: Console,
    destination: Deployed,
    name: Annotated[
        str | None,
        argument(metavar="[NAME] [-- ARGS...]", help="A command of the bundle, and its further arguments."),
    ] = None,
    log: Annotated[
        str | None,
        option("--log", metavar="DIR", help="Directory for its log file; - for none. [default: as its spec says]"),
    ] = None,
    port: Port = None,
    wait_ready: Annotated[
        float | None,
        option(
            "--wait-ready",
            metavar="SECONDS",
            min=0,
            help="Start it in the background, wait until it is ready, and print its process id.",
        ),
    ] = None,
) -> Result:
    """Run a command of a deployment.

    First the host, the mounts that the command needs, and its port are checked; if one of them is not right, the
    exit code is 78. Then this process becomes the command, in the current directory and with the environment
    activated: signals and exit code are those of the command. Its log file, if it has one, gets the time of the
    start in its name. Without NAME, any program is run with the environment activated.

    The port of a command is in its variable PORT. With --port it is another one than the spec says, so two
    deployments can run at the same time: the command must take its port from PORT.

    With --wait-ready the command is started in the background. The exit code is 0 as soon as its ready URL answers
    200 or its port accepts a connection, and 1 if it ends before or the time is over; it is stopped then.

    \b
    Examples:
      envpack run /opt/envs/demo serve
      envpack run /opt/envs/demo serve -- --workers 2
      envpack run /opt/envs/demo serve --wait-ready 60
      envpack run /opt/envs/demo serve --port 8001
      envpack run /opt/envs/demo -- python -c "import torch"
    """
    from envpack.runtime.commands.run import require_program, start
    from envpack.runtime.commands.run import run as become

    words = console.words or ()
    require_program(name, words, wait_ready, port)
    if name is None or wait_ready is None:
        become(destination, name, words, log=log, port=port, reporter=console.reporter)
    done = start(destination, name, words, seconds=wait_ready, log=log, port=port, reporter=console.reporter)
    return Result("run", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: Started) -> None:
    console.out.write(str(done.pid))
    if not console.quiet:
        console.err.write(f"{escape(done.command)} is ready after {human_time(done.ready_seconds)}")
