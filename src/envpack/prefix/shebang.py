"""First lines of scripts: the forms in which installers make a `#!` line run an interpreter in the prefix.

Written from the behaviour of conda (conda/core/portability.py), rattler (crates/rattler/src/install/link.rs),
distlib as in pip (distlib/scripts.py, _build_shebang) and uv (crates/uv-install-wheel/src/wheel.rs,
format_shebang). All but the direct form exist because Linux takes no more than 127 bytes and no blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from envpack.runtime.relocate import Shebang

HEAD = 16384
"""Bytes of a file that are looked at for its first lines."""

# Both shell and Python: the shell sees '' 'exec' "program" arguments "$0" "$@"; Python a string. It ends with
# a quote on a line of its own (distlib, uv, envpack) or a comment (conda, rattler).
_PORTABLE = re.compile(
    rb"#![ \t]*/bin/sh\n'''exec' (?:\"(?P<double>[^\"\n]+)\"|'(?P<single>[^'\n]+)'|(?P<bare>/[^\s\"']+))"
    rb"(?P<arguments>[^\n]*?) \"\$0\" \"\$@\"(?:\n' '''| #''')(?=\n|\Z)"
)
_ENV = re.compile(rb"#!/usr/bin/env (?:-S )?(?P<name>[^\s/]+)(?P<arguments>[^\n]*)")
_LEAD = re.compile(rb"#![ \t]*")


class FirstLine(NamedTuple):
    """``data[:end]`` runs ``prefix + shebang.rest``; ``end`` is that of the line, or of both lines."""

    shebang: Shebang
    end: int


def first_line(head: bytes, spellings: Sequence[bytes]) -> FirstLine | None:
    """The interpreter in the prefix that a script starts with, in its direct form; None when it has none.

    ``head``: the first HEAD bytes of the file. Lines that mention the prefix twice, or end in a carriage
    return, have no direct form.
    """
    return direct_line(head, spellings) or _portable(head, spellings)


def direct_line(head: bytes, spellings: Sequence[bytes]) -> FirstLine | None:
    """The same, only where the script is written in the direct form already."""
    lead = _LEAD.match(head)
    if lead is None:
        return None
    for spelling in spellings:
        if head.startswith(spelling + b"/", lead.end()):
            end = head.find(b"\n")
            end = len(head) if end < 0 else end
            rest = head[lead.end() + len(spelling) : end]
            if b"\r" in rest or any(other in rest for other in spellings):
                return None
            return FirstLine(Shebang(lead.group(), rest), end)
    return None


def _program(form: re.Match[bytes]) -> bytes:
    program: bytes = form["double"] or form["single"] or form["bare"]
    return program


def _portable(head: bytes, spellings: Sequence[bytes]) -> FirstLine | None:
    form = _PORTABLE.match(head)
    if form is None:
        return None
    program, arguments = _program(form), form["arguments"].strip()
    for spelling in spellings:
        inner = program[len(spelling) :]
        if program.startswith(spelling + b"/") and b" " not in inner:
            if any(other in inner + arguments for other in spellings):
                return None
            return FirstLine(Shebang(b"#!", inner + (b" " + arguments if arguments else b"")), form.end())
    return None


def published_lines(head: bytes, prefix: bytes, placeholder: bytes) -> Iterator[tuple[int, bytes]]:
    """The first lines a package may have published where an installer wrote what ``head`` begins with.

    Gives (end of what the installer wrote, the published line) for each; whether it is right, only the
    published file's digest can tell. What went through ``env`` was in bin: nothing else is on PATH.
    """
    portable, through_env = _PORTABLE.match(head), _ENV.match(head)
    if portable and _program(portable).startswith(prefix + b"/"):
        line = placeholder + _program(portable)[len(prefix) :] + portable["arguments"]
        yield portable.end(), b"#!" + line
        yield portable.end(), b"#! " + line
    elif through_env:
        line = placeholder + b"/bin/" + through_env["name"] + through_env["arguments"]
        yield through_env.end(), b"#!" + line
        yield through_env.end(), b"#! " + line
