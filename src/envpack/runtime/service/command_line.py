"""The command line of a named command: a shell line that becomes its program. No I/O."""

from __future__ import annotations

import re
import shlex
from typing import Sequence

_ASSIGNMENTS = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9_@%+:,./-]*\s+)*")
_CONTINUED = re.compile(r"(?<!\\)\\\n")
"""A newline that the shell takes for a continuation of the line (POSIX, XCU 2.2.1)."""

_WORDS = """
    ! { } case do done elif else esac fi for function if in select then time until while [[
    . : break continue eval exec exit export readonly return set shift source times trap unset
    alias bg cd command fg getopts hash jobs local read type ulimit umask unalias wait
"""
_OF_THE_SHELL = frozenset(_WORDS.split())
"""First words that are no programs: reserved words, special built-ins (POSIX, XCU 2.4 and 2.15), and others."""


def shell_line(command: str, arguments: Sequence[str]) -> str:
    """Return the line for ``sh -c``; the arguments are its ``$1`` and further, and are appended to the command.

    A simple command is run by ``exec``, so that the process is the program's own and gets its signals. Any other
    line is left as it is.
    """
    command, end = command.lstrip(), command.rstrip()
    if "\n" in command[len(end.lstrip()) :]:  # a block of YAML ends with it, and no argument can follow it
        command = end.lstrip()
    line = f'{command} "$@"' if arguments else command
    if not _is_simple(command):
        return line
    start = _leading(command)
    return f"{line[:start]}exec {line[start:]}"


def _is_simple(command: str) -> bool:
    """Return whether a line is one program with arguments and redirections, as far as can be told."""
    text = _CONTINUED.sub(" ", command)
    if "\n" in text or (text != command and "#" in text):  # a comment is not continued
        return False
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # a quote that is not closed: the shell will say so
        return False
    if any(set(word) <= set("();<>|&") and set(word) & set("();|") for word in words):
        return False
    if any(set(word) == {"&"} for word in words):
        return False
    name = re.split(r"\s", command[_leading(command) :], maxsplit=1)[0]
    return bool(name) and name not in _OF_THE_SHELL and "=" not in name and name[0] not in "#<>\\"


def _leading(command: str) -> int:
    match = _ASSIGNMENTS.match(command)
    return match.end() if match is not None else 0
