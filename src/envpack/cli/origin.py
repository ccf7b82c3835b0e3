"""What another tool's archive lacks, and what of it was put right, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envpack.cli.text import escape, plural, wrap

if TYPE_CHECKING:
    from envpack.cli.console import Stream
    from envpack.runtime.deployment.source import Repair


def tell_origin(out: Stream, made_by: str, lacks: Sequence[str], repairs: Sequence[Repair], verbose: bool) -> None:
    """Nothing for bundles, which lack nothing; ``verbose`` lists the files that were repaired."""
    if not lacks:
        return
    out.write()
    _list(out, f"made by {made_by}, it has", lacks)
    if repairs:
        told = [f"{plural(len(repair.paths), 'file')}: {repair.reason}" for repair in repairs]
        _list(out, "put right" + ("" if verbose else " (-v lists the files)"), told)
    if verbose:
        for repair in repairs:
            _list(out, repair.kind, repair.paths)


def _list(out: Stream, title: str, lines: Sequence[str]) -> None:
    out.write(escape(title) + ":")
    for line in lines:
        for part in wrap(escape(line), out.width, indent="    ", first="  "):
            out.write(part)
