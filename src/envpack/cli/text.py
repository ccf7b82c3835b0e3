"""Text for people: amounts, dates, wrapping. Pure functions, no rich."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime, timezone

from envpack.runtime.report import escape as escape


def human_time(seconds: float) -> str:
    """Return seconds as text for people: 0.3 s, 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def human_date(epoch: int) -> str:
    """Return seconds since 1970 as a date and time in UTC: 2025-12-19 00:00 UTC."""
    try:
        return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):  # a manifest may state any number
        return f"{epoch} s since 1970"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun, thousands separated: 1 file, 43,700 files."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1] + 'ies' if noun.endswith('y') and noun[-2] not in 'aeou' else noun + 's'}"


def wrap(text: str, width: int | None, indent: str = "", first: str | None = None) -> list[str]:
    """Return the text as lines; paths and long words are not broken.

    Args:
        text: The text.
        width: Most columns of a line; None for one line.
        indent: Text before every line but the first.
        first: Text before the first line; None for ``indent``.
    """
    first = indent if first is None else first
    if width is None:
        return [first + text]
    lines = textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def table(rows: Sequence[Sequence[str]], width: int | None, indent: str = "  ") -> list[str]:
    """Return each row as one line, with columns aligned and two blanks between them.

    Args:
        rows: The cells, the same number in each row.
        width: Columns at which lines are cut off; None for no limit.
        indent: Text before every line.
    """
    columns = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)] if rows else []
    lines = []
    for row in rows:
        cells = "  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, columns, strict=True))
        line = f"{indent}{cells}".rstrip()
        lines.append(line if width is None or len(line) <= width else line[: width - 3] + "...")
    return lines
