"""First lines of scripts: how they run the interpreter in any prefix, without activation.

Linux takes so many bytes after ``#!`` and no more, and no blanks in the interpreter's path. A script for which
that is not enough gets a few lines instead that are both /bin/sh and its own language; they stand, with their
sources, in ``shebang_forms.json``.
"""

from __future__ import annotations

import json
import pkgutil
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

SHEBANG_MAX = 127
"""Longest `#!` line, in bytes, that every kernel takes: BINPRM_BUF_SIZE was 128 with its NUL before Linux 5.1
(include/uapi/linux/binfmts.h), 256 since. Environments are also reached over NFS by old kernels."""

THROUGH_ENV = "env"
"""The form of what no other form is known for: through ``/usr/bin/env``, which finds it when activated."""


@dataclass(frozen=True)
class Shebang:
    """A first line ``lead + placeholder + rest``, such as ``#!`` ``PLACEHOLDER`` ``/bin/python -s``.

    ``lead`` may end in ``/usr/bin/env -S``. ``form``: a key of `forms`, or THROUGH_ENV; "": by the interpreter's
    name, "python" for a Python and THROUGH_ENV for all others. ``coding``: for the form "python-comment", the
    source's encoding, "" for UTF-8.
    """

    lead: bytes
    rest: bytes
    form: str = ""
    coding: str = ""


class Command(NamedTuple):
    """What a first line runs: ``program``, its path in the prefix, with ``words`` for arguments."""

    program: bytes
    words: tuple[bytes, ...]


class Form(NamedTuple):
    """A row of ``shebang_forms.json``."""

    name: str
    programs: str
    lines: bytes


@lru_cache(maxsize=None)
def forms() -> dict[str, Form]:
    """The rows of ``shebang_forms.json`` by name, in their order."""
    data = pkgutil.get_data(__name__, "shebang_forms.json")
    assert data is not None
    rows = [Form(row["form"], row["programs"], row["lines"].encode()) for row in json.loads(data)["forms"]]
    return {form.name: form for form in rows}


_PROGRAM = re.compile(rb"[^ \t]*")
_PLAIN = re.compile(rb"[\w@%+=:,./-]+")


def is_python(program: bytes) -> bool:
    """Whether an interpreter of that path is a Python, going by its name."""
    name = program.rpartition(b"/")[2]
    return b"python" in name or b"pypy" in name


def command(shebang: Shebang) -> Command:
    """What the line runs. The kernel hands on all that stands behind the program as one argument; ``env -S`` takes
    words apart, and so do the lines that pip, conda and uv write for Python, which has no argument with blanks.
    """
    program, arguments = _parts(shebang)
    if b"-S" in shebang.lead or is_python(program):
        return Command(program, tuple(arguments.split()))
    return Command(program, (arguments,) if arguments else ())


def _parts(shebang: Shebang) -> tuple[bytes, bytes]:
    match = _PROGRAM.match(shebang.rest)
    assert match is not None
    return match[0], shebang.rest[match.end() :].strip(b" \t")


def form_of(shebang: Shebang) -> str:
    """The name of the form that the line gets where it can't be direct."""
    return shebang.form or ("python" if is_python(_parts(shebang)[0]) else THROUGH_ENV)


def is_direct(prefix: bytes, shebang: Shebang) -> bool:
    """Whether the kernel can run the line as it is with this prefix."""
    if any(blank in prefix for blank in b" \t"):
        return False
    words = command(shebang).words
    if len(words) > 1 and b"-S" not in shebang.lead:
        return False
    return len(shebang.lead + prefix + shebang.rest) <= SHEBANG_MAX


def needs_activation(prefix: bytes, shebang: Shebang) -> bool:
    """Whether the script runs the deployed interpreter in the activated environment only."""
    return not is_direct(prefix, shebang) and form_of(shebang) == THROUGH_ENV and not _quoted_env(prefix, shebang)


def shebang_line(prefix: bytes, shebang: Shebang) -> bytes:
    """The first line, or the lines in its place, without newline, that run ``prefix + rest`` on every kernel.

    Direct where it is short enough and free of blanks, else in the shebang's form.
    """
    if is_direct(prefix, shebang):
        return shebang.lead + prefix + shebang.rest
    name = form_of(shebang)
    if name == THROUGH_ENV:
        return _quoted_env(prefix, shebang) or _env(shebang)
    program, words = command(shebang)
    given = _parts(shebang)[1]
    lines = forms()[name].lines
    for mark, value in (
        (b"<coding>", (shebang.coding or "utf-8").encode()),
        (b"<given>", b" " + given if given else b""),
        (b"<words>", b"".join(b" " + (word if _PLAIN.fullmatch(word) else _quoted(word)) for word in words)),
        (b"<strings>", b"".join(b" " + _quoted(word) for word in words)),
        (b"<program>", _quoted(prefix + program)),
    ):
        lines = lines.replace(mark, value)
    return lines


def _quoted(word: bytes) -> bytes:
    return b'"' + word + b'"'


def _quoted_env(prefix: bytes, shebang: Shebang) -> bytes:
    """Through ``env -S``, which takes blanks in quotes (GNU coreutils 8.30); b"" where that is too long."""
    program, words = command(shebang)
    line = b"#!/usr/bin/env -S " + b" ".join(map(_quoted, (prefix + program, *words)))
    return line if len(line) <= SHEBANG_MAX and not set(b"".join(words)) & set(b'"\\$') else b""


def _env(shebang: Shebang) -> bytes:
    program, arguments = _parts(shebang)
    name = program.rpartition(b"/")[2]
    return b"#!/usr/bin/env " + (b"-S " if arguments else b"") + name + (b" " + arguments if arguments else b"")
