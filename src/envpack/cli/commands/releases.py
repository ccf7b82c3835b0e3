"""``envpack releases``: what is published in a place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Insecure, argument, option
from envpack.cli.text import escape, table
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.publish.listing import PublishedRelease


def releases(
    console: Console,
    target: Annotated[str, argument(metavar="TARGET", help="Directory, or URL as 'envpack publish' has it.")],
    name: Annotated[str, option("--name", metavar="NAME", help="Only the releases of this environment.")] = "",
    insecure: Insecure = False,
) -> Result:
    """List the releases in a target of 'envpack publish'.

    The newest of each environment is the first. A release that is not complete is left out. -v lists the
    addresses, which 'envpack deploy' reads, and whole digests.

    \b
    Examples:
      envpack releases /srv/bundles
      envpack releases s3://bundles/prod --name demo
    """
    from envpack.publish.listing import list_releases
    from envpack.publish.targets import TargetOptions, publisher_for

    found = list_releases(publisher_for(target, TargetOptions(console.environ, insecure=insecure)), name)
    data = {"releases": [release.as_dict() for release in found]}
    return Result("releases", data, lambda console: _show(console, found))


def _show(console: Console, found: list[PublishedRelease]) -> None:
    out = console.out
    if not found:
        console.reporter.note("no releases")
        return
    header = ("name", "version", "date", "size", "platform", "sha256", "")
    rows = [_row(release) for release in found]
    lines = table([header, *rows], out.width)
    out.write(out.style(lines[0], "2"))
    for release, line in zip(found, lines[1:], strict=True):
        out.write(line)
        if console.verbose:
            out.write(f"  {escape(release.address)}")
            out.write(f"  sha256:{escape(release.sha256)}")


def _row(release: PublishedRelease) -> tuple[str, ...]:
    bundle = release.bundle
    date = bundle.day.isoformat() + (f".{bundle.ordinal}" if bundle.ordinal else "")
    signed = "signed" if release.signed else ""
    return (
        escape(bundle.name),
        escape(bundle.version),
        date,
        human_size(release.size),
        bundle.subdir,
        escape(release.sha256[:12]),
        signed,
    )
