"""``envpack unit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Deployed, Port, argument, option


def unit(
    console: Console,
    destination: Deployed,
    name: Annotated[str, argument(metavar="NAME", help="A command of the bundle.")],
    user: Annotated[
        bool, option("--user", help="For your own systemd (systemctl --user), not for the system's.")
    ] = False,
    run_as: Annotated[
        str | None, option("--run-as", metavar="USER", help="User of a system service. [default: you]")
    ] = None,
    directory: Annotated[
        Path, option("--directory", metavar="DIR", help="Working directory. [default: the current one]")
    ] = Path(),
    env_file: Annotated[
        Path | None, option("--env-file", metavar="FILE", help="File with further environment variables.")
    ] = None,
    port: Port = None,
) -> Result:
    """Print a systemd unit that runs a command of a deployment.

    It starts DEST/bin/NAME-run, so it stays right when DEST is upgraded, and does not need envpack. The output of
    the command goes to the journal. If the command fails, systemd starts it again, but not if it was refused (exit
    code 78) because of the host, a mount or the port.

    \b
    Examples:
      envpack unit /opt/envs/demo serve --run-as demo --directory /srv/demo \\
          | sudo tee /etc/systemd/system/demo.service
      envpack unit ~/envs/demo serve --user > ~/.config/systemd/user/demo.service
    """
    from envpack.runtime.commands.unit import unit as make

    text = make(
        destination,
        name,
        for_user=user,
        account=run_as,
        directory=directory,
        env_file=env_file,
        port=port,
        reporter=console.reporter,
    )
    return Result("unit", {"unit": text}, lambda console: console.out.write(text.rstrip("\n")))
