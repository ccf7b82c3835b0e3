"""``envpack shell``."""

from __future__ import annotations

from envpack.cli.console import Console, Result
from envpack.cli.options import Deployed


def shell(console: Console, destination: Deployed) -> Result:
    """Start an interactive shell with a deployment activated.

    It is the shell that SHELL names. 'exit' leaves it. The exit code is 78 if the environment can't be activated
    on this host, else that of the shell.

    \b
    Example:
      envpack shell /opt/envs/demo
    """
    from envpack.runtime.commands.run import shell as become

    become(destination, console.environ)
