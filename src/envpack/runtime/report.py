"""Progress reports of library code: the Reporter interface, and a plain one for logs and pipes.

Library code gets a Reporter and never prints. ``envpack.cli`` adds one with progress bars for terminals.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from typing import Any, Iterator, TextIO

from envpack.runtime.errors import EnvpackError


class Reporter:
    """A receiver of steps, progress and messages; this base class ignores all of them."""

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        """Open one step of the work, e.g. ``step("Unpacking", total=size)``, for the length of a ``with`` block.

        Steps do not nest. When the block ends normally, the step is done; on an exception, it has failed.

        Args:
            title: Name of the step, as shown.
            total: Amount of work in ``unit``, or None while it is unknown.
            unit: "bytes" or a plural noun.
        """
        yield Step()

    def note(self, message: str) -> None:
        """Report a message that is worth a line, such as the path of a file that was written."""

    def warn(self, message: str) -> None:
        """Report a problem that the user should know about and that does not stop the work."""


class Step:
    """A step in progress; the text that the work sets as ``detail`` is shown when the step is done."""

    detail: str = ""

    def advance(self, amount: int = 1) -> None:
        """Add ``amount``, in the step's unit, to what is done; call it from one thread at a time."""

    def extend(self, total: int) -> None:
        """Set the total, once it is known or when it changes."""


class PlainReporter(Reporter):
    """A reporter that writes one line for each step: for logs, pipes and the runtime inside a bundle.

    Args:
        stream: Where to write (default: stderr).
        prefix: Text at the start of each line.
    """

    def __init__(self, stream: TextIO | None = None, prefix: str = "") -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._prefix = prefix

    def _line(self, text: str) -> None:
        print(f"{self._prefix}{escape(text)}", file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> Iterator[Step]:
        step = Step()
        started = time.monotonic()
        yield step
        took = time.monotonic() - started
        self._line(f"{title}: {step.detail + ', ' if step.detail else ''}{took:.1f} s")

    def note(self, message: str) -> None:
        first, *others = message.split("\n")
        self._line(first)
        for line in others:
            self._line(f"  {line.lstrip()}")

    def warn(self, message: str) -> None:
        self.note(f"warning: {message}")


_SGR = r"\x1b\[[0-9;:]*m"
# Cc controls, Cf invisible formatting (bidi overrides among them: CVE-2021-42574), Cs lone surrogates,
# Zl and Zp line and paragraph separators, Co and Cn: no terminal shows them as anything readable
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})


def escape(text: str) -> str:
    r"""Return the text with everything that a terminal would act on, or hide, as an escape: ``\x1b``, ``\u202e``.

    Names, variables and messages from a bundle or a log are escaped before they are printed. Colours (SGR
    sequences) are removed, tabs become spaces, line breaks are escaped like the rest.
    """
    if text.isprintable():
        return text
    text = re.sub(_SGR, "", text).replace("\t", "    ")
    return "".join(char if char.isprintable() else visible(char) for char in text)


def visible(char: str) -> str:
    r"""Return one character that is not printable as an escape, such as ``\x1b``; a space of any kind as it is."""
    import unicodedata  # only here: a library that few messages need

    if unicodedata.category(char) not in _UNSAFE:
        return char
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{point - 0xDC00:02x}"
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def print_result(text: str) -> None:
    """Print the result of a command to stdout, as it is."""
    print(text)


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout: the result of a command in a format that has an encoding of its own."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def print_error(error: EnvpackError, label: str = "error") -> None:
    """Print an error, with its details and its hint, to stderr."""
    print_wrapped(f"envpack: {label}: {error.message}")
    for line in error.details:
        print_wrapped(line, "  ")
    if error.hint:
        print_wrapped(f"envpack: hint: {error.hint}")


def print_wrapped(text: str, indent: str = "") -> None:
    """Print a line to stderr, wrapped between words on a terminal; unprintable characters are escaped."""
    lines = [indent + escape(text)]
    if sys.stderr.isatty():
        import textwrap  # only here, for it takes its time

        with suppress(OSError):
            width = max(40, os.get_terminal_size(sys.stderr.fileno()).columns)
            lines = textwrap.wrap(
                lines[0],
                width,
                subsequent_indent=indent + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    for line in lines:
        print(line, file=sys.stderr)


def envelope(
    command: str, result: dict[str, Any] | None = None, error: EnvpackError | None = None
) -> dict[str, Any]:
    """Return the one JSON object that a command prints with ``--json``; its schema is ``envpack.<command>/1``.

    Args:
        command: Name of the command.
        result: Result of the command; with an error, the error's own ``result`` is written instead.
        error: Error that ended the command, or None.
    """
    return {
        "schema": f"envpack.{command}/1",
        "ok": error is None,
        "result": result if error is None else error.result,
        "error": error.as_dict() if error is not None else None,
    }


def human_size(size: float) -> str:
    """Return a size in bytes as short text, in decimal units as disks and downloads state them: 5.8 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
