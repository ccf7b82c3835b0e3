"""How work in progress is told: the Reporter interface, and the plain one for logs and pipes.

Library code gets a Reporter and never prints. ``envpack.cli`` adds one with progress bars for terminals.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Any, Iterator, TextIO

from envpack.runtime.errors import EnvpackError


class Reporter:
    """Receives steps, amounts and remarks; this base class ignores them all."""

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        """One step of the work, e.g. ``step("Unpacking", total=size)``; ``unit`` is "bytes" or a plural noun.

        Steps do not nest. When the block ends normally the step is done; on an exception it is failed.
        """
        yield Step()

    def note(self, message: str) -> None:
        """A remark worth a line, such as where something was written."""

    def warn(self, message: str) -> None:
        """Something the person should know, though the work goes on."""


class Step:
    """A step in progress. ``detail`` set by the work is shown when the step is done."""

    detail: str = ""

    def advance(self, amount: int = 1) -> None:
        """So much more is done, in the step's unit. Called from one thread at a time."""

    def extend(self, total: int) -> None:
        """The total became known, or changed."""


class PlainReporter(Reporter):
    """One line a step on ``stream`` (default stderr): for logs, pipes and the runtime inside a bundle."""

    def __init__(self, stream: TextIO | None = None, prefix: str = "") -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._prefix = prefix

    def _line(self, text: str) -> None:
        print(f"{self._prefix}{printable(text)}", file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        step = Step()
        started = time.monotonic()
        yield step
        took = time.monotonic() - started
        self._line(f"{title}: {step.detail + ', ' if step.detail else ''}{took:.1f} s")

    def note(self, message: str) -> None:
        self._line(message)

    def warn(self, message: str) -> None:
        self._line(f"warning: {message}")


def printable(text: str) -> str:
    """The text with everything that could steer a terminal written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def envelope(
    command: str, result: dict[str, Any] | None = None, error: EnvpackError | None = None
) -> dict[str, Any]:
    """The one JSON object a command prints with ``--json``; its schema is ``envpack.<command>/1``."""
    return {
        "schema": f"envpack.{command}/1",
        "ok": error is None,
        "result": result if error is None else None,
        "error": error.as_dict() if error is not None else None,
    }


def human_size(size: float) -> str:
    """Bytes in a person's words, decimal units as disks and downloads state them: 5.8 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
