"""Bars for people: sizes in a column, with a bar of each, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from envpack.cli.terminal import Stream
from envpack.cli.text import escape

LONGEST_BAR = 30
"""Columns."""

_SHORTEST_BAR = 4
_WIDEST_LABEL = 60
"""Columns of a label without a terminal: of a longer one, only its own line is longer."""
_NARROWEST_LABEL = 16


class Bar(NamedTuple):
    """One line of a chart.

    Attributes:
        label: Its untrusted name.
        size: The value that its bar shows.
        cells: Its texts on the right of the label, the most important one first.
    """

    label: str
    size: int
    cells: tuple[str, ...]


def chart(out: Stream, bars: Sequence[Bar]) -> Iterator[str]:
    """Yield a line for each bar, with aligned columns.

    On a terminal, labels are cut, and cells left out from the right, until the lines fit.
    """
    from rich.cells import cell_len

    if not bars:
        return
    labels = [escape(bar.label) for bar in bars]
    label_width = max(map(cell_len, labels))
    widths = [max(map(len, column)) for column in zip(*(bar.cells for bar in bars), strict=True)]
    if out.width is None:
        label_width = min(label_width, _WIDEST_LABEL)
    else:
        while len(widths) > 1 and 2 + min(label_width, _NARROWEST_LABEL) + _columns(widths) > out.width:
            widths.pop()
        label_width = max(1, min(label_width, out.width - 2 - _columns(widths)))
        if out.width >= 60:
            label_width = min(label_width, out.width - 2 - _columns(widths) - 2 - 2 * _SHORTEST_BAR)
    left = (out.width or 110) - 2 - label_width - _columns(widths) - 3
    columns = min(LONGEST_BAR, left) if left >= _SHORTEST_BAR else 0
    largest = max(bar.size for bar in bars)
    for each, label in zip(bars, labels, strict=True):
        cells = "".join(f"  {cell:>{wide}}" for cell, wide in zip(each.cells, widths, strict=False))
        filled = bar(each.size, largest, columns, unicode=out.unicode) if columns else ""
        drawn = f"  {out.style(filled, '36')}" if filled else ""
        whole = out.width is None and cell_len(label) > label_width
        shown = label if whole else fit(label, label_width, unicode=out.unicode)
        yield f"  {shown}{cells}{drawn}".rstrip()


def _columns(widths: Sequence[int]) -> int:
    return sum(2 + wide for wide in widths)


def fit(text: str, columns: int, *, unicode: bool) -> str:
    """Return the text in exactly ``columns`` of a terminal, cut where it is longer."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > columns:
        text = set_cell_size(text, columns - 1) + ("…" if unicode else "~")
    return set_cell_size(text, columns)


def bar(size: int, largest: int, columns: int, *, unicode: bool) -> str:
    """Return a bar, in eighths of a column where the terminal has them; never empty.

    Args:
        size: The size that the bar shows.
        largest: The size of a bar of full length.
        columns: The maximum length.
        unicode: Whether the terminal can show block elements.
    """
    eighths = round(size / largest * columns * 8) if largest else 0
    if not unicode:
        return "#" * max(1, round(eighths / 8)) if size and columns else ""
    full, part = divmod(max(eighths, 1 if size and columns else 0), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
