"""The environment of a command: its streams, whether they are terminals, colours, and the common options.

It is one object that tests replace; nothing in ``envpack.cli`` uses ``sys.stdout`` or ``os.environ`` directly.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from envpack.cli.terminal import Stream, error_lines, warning_lines
from envpack.cli.text import escape
from envpack.runtime.errors import EnvpackError
from envpack.runtime.report import PlainReporter, Reporter, envelope

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Result:
    """The result of a command; ``data``: for ``--json``; ``show``: prints it for a person."""

    command: str
    data: dict[str, Any]
    show: Callable[[Console], None]


@dataclass
class Console:
    """The streams, the environment variables and the options that every command has.

    Args:
        out: Standard output.
        err: Standard error.
        environ: Environment variables.
        json: Whether to print one JSON object on stdout.
        verbose: Whether to report more.
        quiet: Whether to report only warnings and errors.
        root: The folder that /etc is in; only tests change it.
        words: What follows ``--``, for a command in `envpack.cli.app.WITH_WORDS`; None where there is no ``--``.
    """

    out: Stream
    err: Stream
    environ: Mapping[str, str]
    json: bool = False
    verbose: bool = False
    quiet: bool = False
    root: Path = Path("/")
    words: tuple[str, ...] | None = None
    _reporter: Reporter | None = field(default=None, repr=False)

    @classmethod
    def of_process(cls) -> Console:
        """Return the console of this process.

        Characters that a stream's encoding can't represent are written as escapes.
        """
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by the caller: >&-
                setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for good
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return cls(Stream.of(sys.stdout, os.environ), Stream.of(sys.stderr, os.environ), os.environ)

    @property
    def reporter(self) -> Reporter:
        """Return the reporter on stderr: bars on a terminal, else one line per step, only warnings when quiet."""
        if self._reporter is None:
            if self.quiet:
                self._reporter = _Quiet(self)
            elif self.err.terminal:
                from envpack.cli.progress import RichReporter

                self._reporter = RichReporter(self.err)
            else:
                self._reporter = _Plain(self.err)
        return self._reporter

    def show(self, result: Result) -> None:
        """Write the command's result to stdout, for a person or as JSON."""
        if self.json:
            self._object(envelope(result.command, result.data))
        else:
            result.show(self)

    def fail(self, command: str, error: EnvpackError) -> None:
        """Write the error to stderr for a person, and with ``--json`` as one object to stdout."""
        for line in error_lines(error, self.err, verbose=self.verbose):
            self.err.write(line)
        if self.json:
            self._object(envelope(command, error=error))

    def _object(self, document: dict[str, Any]) -> None:
        self.out.write(json.dumps(document, indent=2 if self.out.terminal else None))

    def next_steps(self, lines: Iterable[str]) -> None:
        """Write commands to type next, if stderr is a terminal and neither ``quiet`` nor ``json`` is set."""
        if self.err.terminal and not self.quiet and not self.json:
            self.err.write(self.err.style("next:", "1"))
            for line in lines:
                self.err.write(f"  {line}")

    def output_closed(self) -> bool:
        """Return whether a pipe that stdout or stderr writes to has lost its reader."""
        return any(_hung_up(stream.file) for stream in (self.out, self.err))


def _hung_up(file: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(file.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


class _Plain(PlainReporter):
    """A plain reporter that escapes text from specs and bundles."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.file)
        self._out = stream

    def _line(self, text: str) -> None:
        self._out.write(escape(text))


class _Quiet(Reporter):
    """A reporter of warnings only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def warn(self, message: str) -> None:
        for line in warning_lines(message, self._console.err):
            self._console.err.write(line)
