"""First lines of scripts: the forms in which installers make a `#!` line run an interpreter in the prefix.

Written from the behaviour of conda (conda/core/portability.py), rattler (crates/rattler/src/install/link.rs),
distlib as in pip (distlib/scripts.py, _build_shebang) and uv (crates/uv-install-wheel/src/wheel.rs,
format_shebang). All but the direct form exist because Linux takes no more than 127 bytes and no blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import FileChunk
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.shebang import THROUGH_ENV, Shebang, command, form_of, forms, is_python

HEAD = 16384
"""Bytes of a file that are searched for its first lines."""

# Both shell and Python: the shell sees '' 'exec' "program" arguments "$0" "$@"; Python a string. It ends with
# a quote on a line of its own (distlib, uv, envpack) or a comment (conda, rattler).
_PORTABLE = re.compile(
    rb"#![ \t]*/bin/sh\n'''exec' (?:\"(?P<double>[^\"\n]+)\"|'(?P<single>[^'\n]+)'|(?P<bare>/[^\s\"']+))"
    rb"(?P<arguments>[^\n]*?) \"\$0\" \"\$@\"(?:\n' '''| #''')(?=\n|\Z)"
)
_ENV = re.compile(rb"#!/usr/bin/env (?:-S )?(?P<name>[^\s/\"]+)(?P<arguments>[^\n]*)")
_ENV_BY_PATH = re.compile(rb"#!/usr/bin/env (?:-S )?(?P<command>/[^\n]+)")
# An interpreter by its path from the script (runtime/relocation/shebang.py, `relative_lines`).
_RELATIVE = re.compile(
    rb"\"(?:\$\(dirname -- \"\$\(realpath -- \"\$0\"\)\"\)|\$\{0%/\*\})/(?P<up>(?:\.\./)*)(?P<path>[^\"\n]+)\""
)
_RELATIVE_END = 512
_LEAD = re.compile(rb"#![ \t]*(?:/usr/bin/env[ \t]+(?:-S[ \t]*)?)?")
_IN_BIN = re.compile(rb"(?P<prefix>/[^\n]*?)/bin/(?P<name>[^/\s]+)(?!\S)")

# Characters that no form can hold in an argument: all forms quote it, and some are valid in two languages.
_ODD = re.compile(rb"[\x00-\x1f\x7f\"'\\$`!#<>]")
_SPLIT_ODD = re.compile(rb"[\x00-\x1f\x7f\"'\\$#]")
"""Characters with a special meaning for ``env -S`` (GNU coreutils, 'env invocation')."""

# A string before anything else but comments and blank lines: a docstring, if it is a plain or raw one.
_DOCSTRING = re.compile(rb"\n(?:[ \t\f]*(?:#[^\n]*)?\n)*[rRuU]?[\"']")
# PEP 263; in the first line it would be part of the interpreter's path
_CODING = re.compile(rb"\n[ \t\f]*#.*?coding[:=][ \t]*(?P<name>[-\w.]+)")
_UTF_8 = re.compile(rb"utf[-_]?8(?:[-_].*)?", re.IGNORECASE)


class FirstLine(NamedTuple):
    """A first line that runs ``prefix + shebang.rest``.

    Attributes:
        shebang: The line in its direct form.
        end: Offset of the end of the line, or of the lines that replace it.
    """

    shebang: Shebang
    end: int


def first_line(head: bytes, aliases: Sequence[bytes]) -> FirstLine | None:
    """Return the interpreter in the prefix that a script starts with, in its direct form; None when it has none.

    Lines that mention the prefix twice, or end in a carriage return, have no direct form.

    Args:
        head: The first HEAD bytes of the file.
        aliases: All paths of the prefix.
    """
    return direct_line(head, aliases) or _portable(head, aliases)


def direct_line(head: bytes, aliases: Sequence[bytes]) -> FirstLine | None:
    """Return the same as `first_line`, but only when the script is written in the direct form already."""
    match = _LEAD.match(head)
    if match is None:
        return None
    lead = match.group()
    for alias in aliases:
        if head.startswith(alias + b"/", len(lead)):
            end = head.find(b"\n")
            end = len(head) if end < 0 else end
            rest = head[len(lead) + len(alias) : end]
            if b"\r" in rest or any(other in rest for other in aliases):
                return None
            if b"env" in lead and (_SPLIT_ODD.search(rest) or (b"-S" not in lead and b" " in rest.rstrip())):
                return None
            return FirstLine(_with_form(Shebang(lead, rest), head[end:]), end)
    return None


class Interpreter(NamedTuple):
    """An interpreter by its path, ``prefix + b"/bin/" + name``."""

    prefix: bytes
    name: bytes


def interpreter(head: bytes) -> Interpreter | None:
    """Return the interpreter that a script starts with, in any form; None when it is in no folder bin of a prefix.

    Args:
        head: The first HEAD bytes of the file, or as many as its first lines have.
    """
    call, lead = _call(head), _LEAD.match(head)
    line = call.program if call is not None else head[lead.end() :] if lead is not None else b""
    found = _IN_BIN.match(line)
    return Interpreter(found["prefix"], found["name"]) if found is not None else None


def may_need_activation(relocation: Relocation | None, pieces: Sequence[FileChunk]) -> bool:
    """Return whether an executable file, as stored, may work only in the activated environment.

    Such a file begins with a line that runs something in the prefix, and no form of its own replaces that line
    when a prefix makes it too long or puts blanks into it.
    """
    if relocation is None:
        return False
    if relocation.shebang is not None:
        return form_of(relocation.shebang) == THROUGH_ENV
    if not relocation.text:
        return False
    before = bytes(pieces[0][: relocation.text[0]])
    return before.startswith(b"#!") and b"\n" not in before


def _with_form(shebang: Shebang, body: bytes) -> Shebang:
    """Choose the form by the interpreter's name, and for Python by the beginning of the source."""
    program, words = command(shebang)
    name = program.rpartition(b"/")[2].decode("utf-8", "replace")
    found = next((form.name for form in forms().values() if re.fullmatch(form.programs, name)), THROUGH_ENV)
    if _ODD.search(program) or any(map(_ODD.search, words)):
        return replace(shebang, form=THROUGH_ENV if is_python(program) else "")
    if found == "python":
        coding = _CODING.match(body)
        encoding = coding["name"].decode() if coding and not _UTF_8.fullmatch(coding["name"]) else ""
        if encoding or _DOCSTRING.match(body):
            return replace(shebang, form="python-comment", coding=encoding)
    return shebang if found in ("python", THROUGH_ENV) else replace(shebang, form=found)


def _program(form: re.Match[bytes]) -> bytes:
    program: bytes = form["double"] or form["single"] or form["bare"]
    return program


class _Call(NamedTuple):
    """A program in the prefix that a first line runs.

    Attributes:
        program: Its path.
        arguments: Its arguments as one string.
        split: Whether the line passes them as separate arguments.
        end: Offset of the end of the line or lines.
    """

    program: bytes
    arguments: bytes
    split: bool
    end: int


@cache
def _patterns() -> tuple[re.Pattern[bytes], ...]:
    """Return the patterns that match the forms of ``shebang_forms.json``, and the quoted one of ``env -S``."""
    marks = {
        b"<program>": rb"\"(?P<program>[^\"\n]+)\"",
        b"<words>": rb"(?P<words>[^\n]*?)",
        b"<strings>": rb"(?P<words>(?: \"[^\"\n]*\")*)",
        b"<given>": rb"[^\n]*",
        b"<coding>": rb"[-\w.]+",
    }
    lines = [form.lines for form in forms().values()] + [b"#!/usr/bin/env -S <program><strings>"]
    parts = [[marks.get(part) or re.escape(part) for part in re.split(rb"(<\w+>)", line)] for line in lines]
    return tuple(re.compile(b"".join(part) + rb"(?=\n|\Z)") for part in parts)


def _call(head: bytes) -> _Call | None:
    form = _PORTABLE.match(head)
    if form is not None:
        return _Call(_program(form), form["arguments"].strip(), True, form.end())
    for pattern in _patterns():
        form = pattern.match(head)
        if form is not None:
            words = re.findall(rb"[^\s\"]+|\"[^\"]*\"", form["words"])
            bare = b" ".join(word.strip(b'"') for word in words)
            return _Call(form["program"], bare, len(words) > 1, form.end())
    return None


def _portable(head: bytes, aliases: Sequence[bytes]) -> FirstLine | None:
    call = _call(head)
    if call is None:
        return None
    for alias in aliases:
        inner = call.program[len(alias) :]
        if call.program.startswith(alias + b"/") and b" " not in inner:
            if any(other in inner + call.arguments for other in aliases):
                return None
            lead = b"#!/usr/bin/env -S " if call.split and not is_python(inner) else b"#!"
            rest = inner + (b" " + call.arguments if call.arguments else b"")
            return FirstLine(_with_form(Shebang(lead, rest), head[call.end :]), call.end)
    return None


def published_lines(head: bytes, prefix: bytes, placeholder: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the first lines that a package may have published, where an installer wrote the beginning of ``head``.

    Each is a pair (end of what the installer wrote, published line); only the published file's digest can verify
    it. A name that ``env`` looks up was in bin: no other folder of the prefix is on PATH.

    Args:
        head: The first bytes of the file.
        prefix: The path of the prefix.
        placeholder: The placeholder of the package.
    """
    relative = _RELATIVE.search(head, 0, _RELATIVE_END)
    if relative is not None:
        path = relative["path"] if relative["up"] else b"bin/" + relative["path"]
        absolute = b'"' + prefix + b"/" + path + b'"'
        changed = head[: relative.start()] + absolute + head[relative.end() :]
        for end, line in published_lines(changed, prefix, placeholder):
            yield end - len(absolute) + len(relative[0]), line
        return
    call, through_env, by_path = _call(head), _ENV.match(head), _ENV_BY_PATH.match(head)
    if call is not None and call.program.startswith(prefix + b"/"):
        line = placeholder + call.program[len(prefix) :]
        # with the text after the program as conda and rattler copy it, blanks included, or as envpack does
        behind = [b" " + call.arguments if call.arguments else b""]
        portable = _PORTABLE.match(head)
        if portable is not None and portable["arguments"] != behind[0]:
            behind.insert(0, portable["arguments"])
        for arguments in behind:
            for lead in (b"#!", b"#! ", b"#!/usr/bin/env -S "):
                yield call.end, lead + line + arguments
    elif by_path and by_path["command"].startswith(prefix + b"/"):
        line = placeholder + by_path["command"][len(prefix) :]
        yield by_path.end(), b"#!" + line
        yield by_path.end(), b"#! " + line
    elif through_env:
        line = placeholder + b"/bin/" + through_env["name"] + through_env["arguments"]
        yield through_env.end(), b"#!" + line
        yield through_env.end(), b"#! " + line
