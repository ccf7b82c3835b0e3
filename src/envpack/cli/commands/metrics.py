"""``envpack metrics``: what Prometheus is to know of the deployments and GPUs of this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option, require_file

if TYPE_CHECKING:
    from envpack.runtime.commands.metrics import Metrics


def metrics(
    console: Console,
    destinations: Annotated[
        list[Path] | None,
        argument(metavar="[DEST]...", help="Paths of deployments. [default: those that 'envpack list' knows]"),
    ] = None,
    output: Annotated[
        Path | None,
        option("--output", "-o", metavar="FILE", help="Write them to this file, which is replaced atomically."),
    ] = None,
    port: Annotated[
        int | None,
        option("--port", metavar="N", help="Serve them at http://ADDRESS:N/metrics; 0: any free port."),
    ] = None,
    address: Annotated[
        str | None, option("--address", metavar="ADDRESS", help="Listen on this address. [default: 127.0.0.1]")
    ] = None,
) -> Result:
    """Print or serve metrics of the deployments and GPUs, for Prometheus.

    The metrics are: what is deployed, its state and last check, its processes with their memory and GPU memory,
    the starts of commands by 'envpack run', and the utilisation and memory of NVIDIA GPUs. Each reading is of this
    moment; nothing is verified or measured by reading files. The text is printed once, for the textfile collector
    of node_exporter, or served until Ctrl-C or SIGTERM.

    \b
    Examples:
      envpack metrics
      envpack metrics -o /var/lib/node_exporter/envpack.prom
      envpack metrics --port 9789
      envpack metrics /opt/envs/demo --port 9789 --address 0.0.0.0
    """
    from envpack.runtime.commands.metrics import ADDRESS, check_options, serve_metrics
    from envpack.runtime.commands.metrics import metrics as read

    require_file(output)
    check_options(output, port, address, console.json)
    if port is not None:
        serve_metrics(destinations or (), address or ADDRESS, port, console.reporter)
    done = read(destinations or (), output)
    return Result("metrics", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: Metrics) -> None:
    if done.output is None:
        console.out.write_bytes(done.text.encode())
