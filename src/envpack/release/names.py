"""The date and the format of a bundle, from the command line and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timezone
from pathlib import Path

from envpack.publish.names import SUFFIXES
from envpack.runtime.errors import UsageError


def source_date_epoch(environ: Mapping[str, str]) -> int | None:
    """Return SOURCE_DATE_EPOCH in seconds since 1970, None when it is not set.

    Rule: https://reproducible-builds.org/specs/source-date-epoch/

    Raises:
        UsageError: It is no such number.
    """
    text = environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return None
    # 253402300799 is the last second of the year 9999, the last that a date can represent
    if not text.isascii() or not text.isdecimal() or int(text) > 253402300799:
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {text!r}, expected seconds since 1970",
            hint="Set it, for example, with SOURCE_DATE_EPOCH=$(git log -1 --format=%ct).",
        )
    return int(text)


def build_date(environ: Mapping[str, str]) -> date:
    """Return the date in a bundle's name, UTC: that of SOURCE_DATE_EPOCH when set, else today."""
    epoch = source_date_epoch(environ)
    now = datetime.now(timezone.utc) if epoch is None else datetime.fromtimestamp(epoch, timezone.utc)
    return now.date()


def format_of(requested: str | None, output: Path | None) -> str:
    """Return the format: as requested, else as the output's suffix says, else "gz".

    Raises:
        UsageError: The requested format and the suffix disagree.
    """
    stated = next((key for key, suffix in SUFFIXES.items() if output and output.name.endswith(suffix)), None)
    if requested and stated and requested != stated:
        raise UsageError(
            f"--format {requested} does not match the suffix of {output}", hint="Run the command without --format."
        )
    return requested or stated or "gz"
