"""Progress on a terminal: a bar while a step runs, one line when it is done. Import it late: it imports rich."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from envpack.cli.terminal import Stream, warning_lines
from envpack.cli.text import escape, human_time
from envpack.runtime.report import Reporter, Step, human_size

APPEARS_AFTER = 0.15
"""Seconds before a step shows its bar: for a shorter step it would only flicker."""

WIDEST = 88
"""Most columns of a finished step's line: the seconds stay near the text they belong to."""


class RichReporter(Reporter):
    """A reporter that shows running steps as bars with amount, rate and time left, and finished steps as lines."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._console: RichConsole = stream.rich()

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        step = _Live(self._console, self._stream.unicode, escape(title), total, unit)
        started = time.monotonic()
        done = False
        try:
            yield step
            done = True
        finally:
            step.stop()
            self._finished(step, time.monotonic() - started, done=done)

    def _finished(self, step: _Live, seconds: float, *, done: bool) -> None:
        mark, style = ("✓", "green") if done else ("✗", "red")
        if not self._stream.unicode:
            mark = "+" if done else "x"
        width = min(self._console.width, WIDEST)
        line = Table.grid(padding=(0, 1, 0, 0), expand=True)
        line.add_column(width=1)
        cells = [Text(mark, style), Text(step.title)]
        if step.detail:
            line.add_column(min_width=min(24, width // 3), overflow="fold")
            cells.append(Text(escape(step.detail), "cyan"))
        line.add_column(ratio=1, overflow="fold")
        line.add_column(justify="right", no_wrap=True)
        line.add_row(*cells, Text(human_time(seconds), "dim"))
        self._console.print(line, width=width)

    def note(self, message: str) -> None:
        self._print([f"  {escape(line)}" for line in message.splitlines()])

    def warn(self, message: str) -> None:
        self._print(warning_lines(message, self._stream))

    def _print(self, lines: list[str]) -> None:
        # through rich, so that the lines appear above a bar that is shown
        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True)


class _Live(Step):
    """A step that shows a bar after `APPEARS_AFTER` seconds."""

    def __init__(self, console: RichConsole, unicode: bool, title: str, total: int | None, unit: str) -> None:
        self.title = title
        wide = console.width >= 60
        columns: list[ProgressColumn] = [
            SpinnerColumn("dots" if unicode else "line", style="cyan"),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=min(28, console.width // 4), complete_style="cyan", finished_style="cyan"),
            _Amount(unit, table_column=Column(no_wrap=True)),
        ]
        if wide:
            columns.append(_Pace(unit, table_column=Column(no_wrap=True)))
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=10)
        self._task = self._progress.add_task(title, total=total)
        self._lock = threading.Lock()
        self._stopped = self._shown = False
        self._timer = threading.Timer(APPEARS_AFTER, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if not self._stopped:
                self._shown = True
                self._progress.start()

    def stop(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._stopped = True
            if self._shown:
                self._progress.stop()

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)

    def extend(self, total: int) -> None:
        self._progress.update(self._task, total=total)


class _Amount(ProgressColumn):
    """The amount done of the total: 120 MB of 450 MB, 12 of 30 packages; the elapsed time if none is counted."""

    def __init__(self, unit: str, table_column: Column) -> None:
        self._unit = unit
        super().__init__(table_column)

    def render(self, task: Task) -> Text:
        if not task.total and not task.completed:
            return Text(human_time(task.elapsed or 0), "dim")
        if self._unit == "bytes":
            done = human_size(task.completed)
            return Text(f"{done} of {human_size(task.total)}" if task.total else done)
        done = f"{task.completed:,.0f}"
        return Text(f"{done} of {task.total:,.0f} {self._unit}" if task.total else f"{done} {self._unit}")


class _Pace(ProgressColumn):
    """The rate, for bytes, and the time left once it can be estimated."""

    max_refresh = 0.5  # figures that change faster can't be read

    def __init__(self, unit: str, table_column: Column) -> None:
        self._unit = unit
        super().__init__(table_column)

    def render(self, task: Task) -> Text:
        parts = []
        if self._unit == "bytes" and task.speed:
            parts.append(f"{human_size(task.speed)}/s")
        left = task.time_remaining
        if left is not None and not task.finished and task.completed:
            parts.append(f"{f'{left:.0f} s' if left < 60 else human_time(left)} left")
        return Text(", ".join(parts), "dim")
