"""``envpack list``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import option
from envpack.cli.text import escape, human_date, plural, wrap
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.deployment.listing import DeploymentInfo


def list_(
    console: Console,
    scan: Annotated[
        list[Path] | None,
        option("--scan", metavar="ROOT", help="Look for deployments below it, too. Repeatable."),
    ] = None,
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
    from envpack.runtime.deployment.listing import list_deployments
    from envpack.runtime.deployment.registry import register
    from envpack.runtime.deployment.registry import scan as find
    from envpack.runtime.errors import UsageError

    for root in scan or ():
        if not root.expanduser().is_dir():
            raise UsageError(f"{root} is no folder to look for deployments in")
        with console.reporter.step(f"Looking below {root}", unit="deployments") as step:
            found = list(find(root.expanduser()))
            for path in found:
                register(path, console.reporter)
            step.detail = plural(len(found), "deployment")
    deployments = list(list_deployments())
    data = {"deployments": [item.as_dict() for item in deployments]}
    return Result("list", data, lambda console: _show(console, deployments))


def _show(console: Console, deployments: Sequence[DeploymentInfo]) -> None:
    out = console.out
    if not deployments:
        out.write("nothing is deployed here, as far as is known; 'envpack list --scan ROOT' looks for it")
    for item in deployments:
        out.write(out.style(escape(item.path), "1"))
        if item.state == "unreadable":
            out.write(out.style("  can't be read", "33"))
            continue
        current = item.current
        state = item.state if item.state == "ok" else out.style(item.state, "33")
        first = (
            f"{current.name} {current.version}, generation {current.generation}, {human_date(current.deployed)}, "
        )
        for line in wrap(escape(first) + state, out.width, indent="    ", first="  "):
            out.write(line)
        facts = [human_size(item.size) + (f", {human_size(item.shared)} of it shared" if item.shared else "")]
        if item.kept:
            facts.append(f"{plural(len(item.kept), 'previous one')} kept")
        if item.host and item.host != "passed":
            facts.append(f"host {item.host}")
        for line in wrap(escape("; ".join(facts)), out.width, indent="    ", first="  "):
            out.write(line)
