"""What was packed otherwise than its packages published it, told once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envpack.cli.console import Console
from envpack.cli.text import plural

if TYPE_CHECKING:
    from envpack.prefix.scan.prune import Selection
    from envpack.runtime.format.changes import Changes, Unrelocatable

SHOWN = 3
"""Files named without -v."""

_WORDS = {
    "modified": "edited",
    "replaced": "replaced by pip or by envpack's own",
    "foreign": "of no package",
    "missing": "gone",
    "left_out": "of editable installs left out",
    "outside": "links out of the environment",
}


def tell(console: Console, changes: Changes, selection: Selection | None = None) -> None:
    """One note of what differs and what was left out, one warning of what can't be relocated; -v lists all."""
    reporter = console.reporter
    if selection is not None:
        for glob in selection.idle():
            reporter.warn(
                f"nothing in the environment matches {glob!r}; globs are as in .gitignore: see docs/packing.md"
            )
        if selection.dropped:
            rules = ", ".join(f"{count:,} by {rule}" for rule, count in selection.dropped.most_common())
            reporter.note(f"left out: {plural(selection.dropped.total(), 'file')}, {rules}")
    counts = changes.counts
    told = [f"{counts[name]:,} {words}" for name, words in _WORDS.items() if counts[name]]
    if told:
        reporter.note(f"not as published: {', '.join(told)}" + ("" if console.verbose else " (-v lists them)"))
    if console.verbose:
        for name, words in _WORDS.items():
            for path in getattr(changes, name):
                reporter.note(f"  {words}: {path}")
    if changes.needs_activation:
        lines = [f"  {path}" for path in changes.needs_activation] if console.verbose else []
        message = (
            f"{plural(len(changes.needs_activation), 'script')} will need activation where the destination is "
            "long or has blanks" + ("" if console.verbose else " (-v lists them)")
        )
        reporter.note("\n".join([message, *lines]))
    mentions = sorted(changes.unrelocatable, key=lambda item: not item.matters)
    if mentions:
        _tell_unrelocatable(console, mentions)


def _tell_unrelocatable(console: Console, mentions: Sequence[Unrelocatable]) -> None:
    serious = [item for item in mentions if item.matters]
    shown = mentions if console.verbose else serious[:SHOWN]
    files = len({item.path for item in mentions})
    verb = "mentions" if files == 1 else "mention"
    message = f"{plural(files, 'file')} {verb} the environment's path where no other can be written in; "
    matters = len({item.path for item in serious})
    message += f"programs may miss {matters:,} of them" if matters else "none of it matters, as far as is known"
    hidden = "" if len(shown) == len(mentions) else " (-v lists them)"
    lines = [f"  {describe_unrelocatable(item)}" for item in shown]
    tell = console.reporter.warn if matters else console.reporter.note
    tell("\n".join([message + hidden, *lines]))


def describe_unrelocatable(item: Unrelocatable) -> str:
    """One line: path, reason, whether it matters."""
    return f"{item.path}: {item.reason}" + ("" if item.matters else " (does not matter)")
