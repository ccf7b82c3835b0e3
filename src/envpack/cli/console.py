"""The world a command sees: its streams, whether they are terminals, colours, the mode asked for.

One object that tests replace; nothing in ``envpack.cli`` touches ``sys.stdout`` or ``os.environ`` itself.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from envpack.cli.text import escape, wrap
from envpack.runtime.errors import EnvpackError
from envpack.runtime.report import PlainReporter, Reporter, envelope

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


@dataclass(frozen=True)
class Result:
    """What a command found or made: ``data`` for ``--json``; ``show`` prints it for a person."""

    command: str
    data: dict[str, Any]
    show: Callable[[Console], None]


@dataclass(frozen=True)
class Stream:
    """An output stream and what can be shown on it. ``width``: its columns, None when it is no terminal."""

    file: TextIO
    terminal: bool
    colour: bool
    unicode: bool
    width: int | None

    @classmethod
    def of(cls, file: TextIO, environ: Mapping[str, str]) -> Stream:
        terminal = file.isatty() and environ.get("TERM") != "dumb"
        # https://no-color.org and https://force-color.org: set and not empty; the first one wins
        colour = not environ.get("NO_COLOR") and (bool(environ.get("FORCE_COLOR")) or terminal)
        unicode = (file.encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
        return cls(file, terminal, colour, unicode, _columns(file, environ) if terminal else None)

    def style(self, text: str, code: str) -> str:
        """The text in the given SGR style, e.g. "1;31", where this stream shows colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def write(self, line: str = "") -> None:
        """A line. Nothing happens where who read them has gone, as in ``| head -1``: the work itself goes on."""
        with suppress(BrokenPipeError):
            print(line, file=self.file, flush=True)

    def pairs(self, pairs: Iterable[tuple[str, str]], *, whole: bool = False) -> None:
        """Labels on the left and untrusted values on the right, wrapped beside them on a terminal.

        ``whole`` values are not wrapped: commands, so that they can be copied.
        """
        listed = [(escape(label), escape(value)) for label, value in pairs]
        columns = max(10, min(24, max((len(label) for label, _ in listed), default=0)))
        for label, value in listed:
            first = f"  {label:<{columns}} "
            lines = wrap(value, None if whole else self.width, indent=" " * len(first), first=first)
            self.write(lines[0].replace(label, self.style(label, "36"), 1) if label else lines[0])
            for line in lines[1:]:
                self.write(line)

    def rich(self) -> RichConsole:
        """A rich console on this stream, with the colours and the width decided here."""
        from rich.console import Console as RichConsole

        return RichConsole(
            file=self.file,
            force_terminal=self.terminal,
            color_system="standard" if self.colour else None,
            no_color=not self.colour,
            width=self.width or 100,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            # rich would look at FORCE_COLOR and COLUMNS again
            _environ={},
        )


def _columns(file: TextIO, environ: Mapping[str, str]) -> int:
    """The terminal's columns; COLUMNS overrules, as for most programs."""
    stated = environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


@dataclass
class Console:
    """Streams, environment and the options every command has. ``root``: where /etc is looked for; only tests say
    otherwise."""

    out: Stream
    err: Stream
    environ: Mapping[str, str]
    json: bool = False
    verbose: bool = False
    quiet: bool = False
    root: Path = Path("/")
    _reporter: Reporter | None = field(default=None, repr=False)

    @classmethod
    def of_process(cls) -> Console:
        """The console of this process. What a stream's encoding lacks is written as an escape."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by the caller: >&-
                setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for good
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return cls(Stream.of(sys.stdout, os.environ), Stream.of(sys.stderr, os.environ), os.environ)

    @property
    def reporter(self) -> Reporter:
        """Progress on stderr: bars on a terminal, else one line a step, only warnings when quiet."""
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
        """The command's result on stdout, in the form asked for."""
        if self.json:
            self._object(envelope(result.command, result.data))
        else:
            result.show(self)

    def fail(self, command: str, error: EnvpackError) -> None:
        """The error for a person on stderr, and with ``--json`` the one object on stdout."""
        for line in error_lines(error, self.err):
            self.err.write(line)
        if self.json:
            self._object(envelope(command, error=error))

    def _object(self, document: dict[str, Any]) -> None:
        self.out.write(json.dumps(document, indent=2 if self.out.terminal else None))

    def next_steps(self, lines: Iterable[str]) -> None:
        """Commands to type next, for a person who watches: only where stderr is a terminal and not quiet."""
        if self.err.terminal and not self.quiet and not self.json:
            self.err.write(self.err.style("next:", "1"))
            for line in lines:
                self.err.write(f"  {line}")

    def reader_gone(self) -> bool:
        """Whether a pipe that stdout or stderr writes to has lost its reader."""
        return any(_hung_up(stream.file) for stream in (self.out, self.err))


def _hung_up(file: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(file.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


class _Plain(PlainReporter):
    """The plain reporter, with what comes out of specs and bundles made harmless."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.file)
        self._out = stream

    def _line(self, text: str) -> None:
        self._out.write(escape(text))


class _Quiet(Reporter):
    """Only warnings."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def warn(self, message: str) -> None:
        for line in warning_lines(message, self._console.err):
            self._console.err.write(line)


def error_lines(error: EnvpackError, stream: Stream) -> list[str]:
    """``error: message``, the details indented, ``hint: ...``; wrapped on a terminal."""
    lines = _labelled("error:", error.message, "1;31", stream)
    for detail in error.details:
        for line in detail.splitlines() or [""]:
            lines += wrap(escape(line.rstrip()), stream.width, indent="    ", first="  ")
    if error.hint:
        lines += _labelled("hint:", error.hint, "1;36", stream)
    return lines


def warning_lines(message: str, stream: Stream) -> list[str]:
    return _labelled("warning:", message, "1;33", stream)


def _labelled(label: str, message: str, code: str, stream: Stream) -> list[str]:
    paragraphs = [escape(part) for part in message.splitlines()] or [""]
    lines = wrap(paragraphs[0], stream.width, indent="  ", first=f"{label} ")
    for paragraph in paragraphs[1:]:
        lines += wrap(paragraph, stream.width, indent="  ")
    return [lines[0].replace(label, stream.style(label, code), 1), *lines[1:]]
