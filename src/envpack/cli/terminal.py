"""An output stream with its capabilities, and the form of errors and warnings on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from envpack.cli.text import escape, wrap
from envpack.runtime.errors import EnvpackError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


@dataclass(frozen=True)
class Stream:
    """An output stream and its capabilities.

    Args:
        file: The text file to write to.
        terminal: Whether it is a terminal.
        colour: Whether it shows colours.
        unicode: Whether its encoding is UTF-8.
        width: Its columns, None when it is no terminal.
    """

    file: TextIO
    terminal: bool
    colour: bool
    unicode: bool
    width: int | None

    @classmethod
    def of(cls, file: TextIO, environ: Mapping[str, str]) -> Stream:
        """Return the stream of a file; ``environ``: for TERM, NO_COLOR, FORCE_COLOR and COLUMNS."""
        terminal = file.isatty() and environ.get("TERM") != "dumb"
        # https://no-color.org and https://force-color.org: set and not empty; the first one wins
        colour = not environ.get("NO_COLOR") and (bool(environ.get("FORCE_COLOR")) or terminal)
        unicode = (file.encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
        return cls(file, terminal, colour, unicode, _columns(file, environ) if terminal else None)

    def style(self, text: str, code: str) -> str:
        """Return the text in the given SGR style, e.g. "1;31", where this stream shows colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def write(self, line: str = "") -> None:
        """Write a line. A closed pipe, as with ``| head -1``, is ignored: the work itself goes on."""
        with suppress(BrokenPipeError):
            print(line, file=self.file, flush=True)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes, in a format with an encoding of its own; UTF-8 where the file takes text only."""
        with suppress(BrokenPipeError):
            self.file.flush()
            buffer = getattr(self.file, "buffer", None)
            if buffer is None:
                self.file.write(data.decode("utf-8"))
            else:
                buffer.write(data)
                buffer.flush()

    def pairs(self, pairs: Iterable[tuple[str, str]], *, unwrapped: bool = False) -> None:
        """Write labels on the left and untrusted values on the right, wrapped on a terminal.

        With ``unwrapped`` the values are not wrapped: commands, so that they can be copied.
        """
        escaped = [(escape(label), escape(value)) for label, value in pairs]
        columns = max(10, min(24, max((len(label) for label, _ in escaped), default=0)))
        for label, value in escaped:
            first = f"  {label:<{columns}} "
            lines = wrap(value, None if unwrapped else self.width, indent=" " * len(first), first=first)
            self.write(lines[0].replace(label, self.style(label, "36"), 1) if label else lines[0])
            for line in lines[1:]:
                self.write(line)

    def rich(self) -> RichConsole:
        """Return a rich console on this stream, with its colours and width."""
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
            # otherwise rich reads FORCE_COLOR and COLUMNS again
            _environ={},
        )


def _columns(file: TextIO, environ: Mapping[str, str]) -> int:
    """Return the terminal's columns; COLUMNS overrides them, as for most programs."""
    stated = environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


def error_lines(error: EnvpackError, stream: Stream, *, verbose: bool = False) -> list[str]:
    """Return ``error: message``, the details indented, and ``hint: ...``; wrapped on a terminal.

    Args:
        error: The error.
        stream: The stream that the lines are written to.
        verbose: Whether all of a log is shown instead of its end.
    """
    lines = _labelled("error:", error.message, "1;31", stream)
    for detail in (verbose and error.log) or error.details:
        for line in detail.splitlines() or [""]:
            lines += wrap(escape(line.rstrip()), stream.width, indent="    ", first="  ")
    if error.hint:
        lines += _labelled("hint:", error.hint, "1;36", stream)
    return lines


def warning_lines(message: str, stream: Stream) -> list[str]:
    """Return ``warning: message``, wrapped on a terminal."""
    return _labelled("warning:", message, "1;33", stream)


def _labelled(label: str, message: str, code: str, stream: Stream) -> list[str]:
    paragraphs = [escape(part) for part in message.splitlines()] or [""]
    lines = wrap(paragraphs[0], stream.width, indent="  ", first=f"{label} ")
    for paragraph in paragraphs[1:]:
        lines += wrap(paragraph, stream.width, indent="  ")
    return [lines[0].replace(label, stream.style(label, code), 1), *lines[1:]]
