"""First lines of scripts which run the interpreter in any prefix, without activation.

Linux limits the length of a ``#!`` line and allows no blanks in the interpreter's path. A script for which that is
not enough gets a few lines instead that are valid both in /bin/sh and in its own language; those lines and their
sources are in ``shebang_forms.json``.
"""

from __future__ import annotations

import json
import pkgutil
import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

SHEBANG_MAX = 127
"""Bytes of the longest `#!` line that every kernel accepts: BINPRM_BUF_SIZE was 128 with its NUL before Linux 5.1
(include/uapi/linux/binfmts.h), 256 since. Environments on NFS are also used by old kernels."""

THROUGH_ENV = "env"
"""The form for interpreters without a form of their own: through ``/usr/bin/env``, which finds the interpreter
when the environment is activated."""


@dataclass(frozen=True)
class Shebang:
    """A first line ``lead + placeholder + rest``, such as ``#!`` ``PLACEHOLDER`` ``/bin/python -s``.

    Args:
        lead: the bytes before the placeholder; may end in ``/usr/bin/env -S``.
        rest: the bytes after the placeholder, without the newline.
        form: a key of `forms`, or THROUGH_ENV; "": chosen by the interpreter's name, "python" for a Python and
            THROUGH_ENV for all others.
        coding: for the form "python-comment", the encoding of the source; "" for UTF-8.
    """

    lead: bytes
    rest: bytes
    form: str = ""
    coding: str = ""


class Command(NamedTuple):
    """The command of a first line: ``program``, a path inside the prefix, with the arguments ``words``."""

    program: bytes
    words: tuple[bytes, ...]


class Form(NamedTuple):
    """A row of ``shebang_forms.json``."""

    name: str
    programs: str
    lines: bytes


@lru_cache(maxsize=None)
def forms() -> dict[str, Form]:
    """Return the rows of ``shebang_forms.json`` by name, in the order of the file."""
    data = pkgutil.get_data(__name__, "shebang_forms.json")
    assert data is not None
    rows = [Form(row["form"], row["programs"], row["lines"].encode()) for row in json.loads(data)["forms"]]
    return {form.name: form for form in rows}


_PROGRAM = re.compile(rb"[^ \t]*")
_PLAIN = re.compile(rb"[\w@%+=:,./-]+")


def is_python(program: bytes) -> bool:
    """Return whether the interpreter at the path ``program`` is a Python, judged by its file name."""
    name = program.rpartition(b"/")[2]
    return b"python" in name or b"pypy" in name


def command(shebang: Shebang) -> Command:
    """Return the command that the line runs.

    The kernel passes everything behind the program as one argument. ``env -S`` splits it into words, and so do the
    lines that pip, conda and uv write for Python, which has no argument with blanks.
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
    """Return the name of the form that the line gets where `is_direct` is false."""
    return shebang.form or ("python" if is_python(_parts(shebang)[0]) else THROUGH_ENV)


def is_direct(prefix: bytes, shebang: Shebang) -> bool:
    """Return whether the kernel can run the line as it is, with ``prefix`` for the placeholder."""
    if any(blank in prefix for blank in b" \t"):
        return False
    words = command(shebang).words
    if len(words) > 1 and b"-S" not in shebang.lead:
        return False
    return len(shebang.lead + prefix + shebang.rest) <= SHEBANG_MAX


def needs_activation(prefix: bytes, shebang: Shebang) -> bool:
    """Return whether the script finds the deployed interpreter only when the environment is activated."""
    return not is_direct(prefix, shebang) and form_of(shebang) == THROUGH_ENV and not _quoted_env(prefix, shebang)


def shebang_line(prefix: bytes, shebang: Shebang) -> bytes:
    """Return the first line, or the lines that replace it, which run ``prefix + rest`` on every kernel.

    The line is direct where it is short enough and its path has no blanks, else it has the shebang's form. There
    is no newline at the end.
    """
    if is_direct(prefix, shebang):
        return shebang.lead + prefix + shebang.rest
    name = form_of(shebang)
    if name == THROUGH_ENV:
        return _quoted_env(prefix, shebang) or env_line(shebang)
    return _through_shell(shebang, name, _quoted(prefix + command(shebang).program))


def relative_lines(shebang: Shebang, folder: bytes) -> bytes | None:
    """Return the lines that run the interpreter by its path from the script, in whatever prefix that lies.

    None for an interpreter without a form of its own. The lines need no prefix, so they work in an image that is
    read only and before ``conda-unpack``.

    Args:
        shebang: The first line.
        folder: The script's folder in the prefix, such as ``b"bin"``.
    """
    name = form_of(shebang)
    if name == THROUGH_ENV:
        return None
    program = posixpath.relpath(command(shebang).program.lstrip(b"/"), folder)
    # the other languages read the program as a string, in which there can't be quotes; there no link is followed
    here = b'$(dirname -- "$(realpath -- "$0")")' if name.startswith("python") else b"${0%/*}"
    return _through_shell(shebang, name, _quoted(here + b"/" + program))


def env_line(shebang: Shebang) -> bytes:
    """Return the line through ``/usr/bin/env``, which finds the interpreter when the environment is activated."""
    program, arguments = _parts(shebang)
    name = program.rpartition(b"/")[2]
    return b"#!/usr/bin/env " + (b"-S " if arguments else b"") + name + (b" " + arguments if arguments else b"")


def _through_shell(shebang: Shebang, name: str, program: bytes) -> bytes:
    """Return the lines of the form ``name``, which run ``program``, an expression of sh in double quotes."""
    words = command(shebang).words
    given = _parts(shebang)[1]
    lines = forms()[name].lines
    for mark, value in (
        (b"<coding>", (shebang.coding or "utf-8").encode()),
        (b"<given>", b" " + given if given else b""),
        (b"<words>", b"".join(b" " + (word if _PLAIN.fullmatch(word) else _quoted(word)) for word in words)),
        (b"<strings>", b"".join(b" " + _quoted(word) for word in words)),
        (b"<program>", program),
    ):
        lines = lines.replace(mark, value)
    return lines


def _quoted(word: bytes) -> bytes:
    return b'"' + word + b'"'


def _quoted_env(prefix: bytes, shebang: Shebang) -> bytes:
    """Return a line through ``env -S``, which accepts quoted blanks (GNU coreutils 8.30).

    b"" where that line is too long, or an argument has a quote, a backslash or ``$``.
    """
    program, words = command(shebang)
    line = b"#!/usr/bin/env -S " + b" ".join(map(_quoted, (prefix + program, *words)))
    return line if len(line) <= SHEBANG_MAX and not set(b"".join(words)) & set(b'"\\$') else b""
