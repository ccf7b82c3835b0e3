"""Charts fit the terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from envpack.cli.chart import Bar, chart
from envpack.cli.terminal import Stream


def stream(width: int | None, *, unicode: bool = True) -> Stream:
    return Stream(io.StringIO(), terminal=width is not None, colour=False, unicode=unicode, width=width)


BARS = [
    Bar("numpy", 17_000_000, ("17.0 MB", "100 %", "1,034 files")),
    Bar("a-package-with-a-very-long-name-indeed-and-more", 5_000_000, ("5.0 MB", "30 %", "1 file")),
    Bar("数値計算ライブラリの名前はとても長いものです", 0, ("0 bytes", "0 %", "0 files")),
    Bar("evil\x1b[2J", 1, ("1 byte", "<1 %", "1 file")),
]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 81, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_lines_fit_and_are_aligned(width: int, unicode: bool) -> None:
    lines = list(chart(stream(width, unicode=unicode), BARS))
    assert len(lines) == len(BARS)
    assert max(map(cell_len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    at = [
        cell_len(line[: line.index(bar.cells[0])]) + len(bar.cells[0])
        for line, bar in zip(lines, BARS, strict=True)
    ]
    assert len(set(at)) == 1


def test_narrow_terminals_lack_the_less_important_cells_first() -> None:
    shown = "\n".join(chart(stream(40), BARS))
    assert "17.0 MB" in shown and "1,034 files" not in shown
    assert "1,034 files" in "\n".join(chart(stream(80), BARS))


def test_without_a_terminal_nothing_is_cut() -> None:
    lines = list(chart(stream(None), BARS))
    assert all(text in line for line, bar in zip(lines, BARS, strict=True) for text in bar.cells)
    assert BARS[1].label in lines[1]
    lines = list(chart(stream(None), [Bar("x" * 4000, 1, ("1 byte",)), Bar("y", 1, ("1 byte",))]))
    assert "x" * 4000 in lines[0] and len(lines[1]) < 120


def test_nothing_to_show() -> None:
    assert list(chart(stream(80), [])) == []
    assert list(chart(stream(80), [Bar("x", 0, ("0 bytes",))])) == ["  x  0 bytes"]
