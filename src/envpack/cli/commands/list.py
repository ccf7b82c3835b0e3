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
        option("--scan", metavar="ROOT", help="List the deployments in this directory instead. Repeatable."),
    ] = None,
) -> Result:
    """List the deployments of this user and of root on this host.

    Shows for each what is deployed, whether this host passed the check, whether the tests passed, the size, how
    much of that is in files shared with others (a store), and the number of previous generations. Deployments that
    no longer exist are removed from the list. --scan lists those below a directory instead, and adds those that
    are not in the list, such as trees that were unpacked by tar or moved.

    \b
    Examples:
      envpack list
      envpack list --scan /opt/envs --scan ~/envs
    """
    from envpack.runtime.deployment.listing import list_deployments
    from envpack.runtime.deployment.registry import register
    from envpack.runtime.deployment.registry import scan as find
    from envpack.runtime.errors import UsageError

    below: list[Path] = []
    for root in scan or ():
        if not root.expanduser().is_dir():
            raise UsageError(f"{root} is not a directory")
        with console.reporter.step(f"Searching {root}", unit="deployments") as step:
            found = list(find(root.expanduser()))
            for path in found:
                register(path, console.reporter)
            below += found
            step.detail = plural(len(found), "deployment")
    deployments = list(list_deployments(below if scan else None))
    data = {"deployments": [item.as_dict() for item in deployments]}
    return Result("list", data, lambda console: _show(console, deployments))


def _show(console: Console, deployments: Sequence[DeploymentInfo]) -> None:
    out = console.out
    if not deployments:
        out.write("no deployments are known; 'envpack list --scan ROOT' searches for them")
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
            facts.append(plural(len(item.kept), "previous generation"))
        if item.host and item.host != "passed":
            facts.append(f"host {item.host}")
        for line in wrap(escape("; ".join(facts)), out.width, indent="    ", first="  "):
            out.write(line)
