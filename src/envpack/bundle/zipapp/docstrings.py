"""Removal of docstrings from Python source; every other line keeps its number and its text."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    rb'''
      ^(?P<indent>[ \t]*)[rR]?"""(?:[^"\\]|\\.|"(?!""))*"""[ \t]*(?=\r?\n|\Z)   # with its lines to itself
    | \#[^\n]*
    | """(?:[^"\\]|\\.|"(?!""))*""" | \'\'\'(?:[^\'\\]|\\.|\'(?!\'\'))*\'\'\'
    | "(?:[^"\\\n]|\\.)*" | \'(?:[^\'\\\n]|\\.)*\'
    ''',
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
"""Strings and comments: a quote in one of them begins nothing."""

_HEAD = re.compile(rb":[ \t]*(?:#[^\n]*)?\r?\n\s*\Z")
"""What is before the first statement of a block."""
_NEXT = re.compile(rb"(?:\s*(?:#[^\n]*)?\n)*(?P<indent>[ \t]*)(?P<statement>[^\s#])?")


def without_docstrings(source: bytes) -> bytes:
    """Return Python source (UTF-8) with empty lines instead of its docstrings.

    Docstrings are the strings in three double quotes that have their lines to themselves, those below constants
    (PEP 258) included. The only statement of a block becomes ``pass``. Such a string must not be a part of an
    expression: that is the rule of the code that this is for, and a parser would take ten times as long.
    """
    pieces, end = [], 0
    for found in _TOKEN.finditer(source):
        if found["indent"] is None:
            continue
        pieces.append(source[end : found.start()])
        if _is_alone(source, found):
            pieces.append(found["indent"] + b"pass")
        pieces.append(b"\n" * found[0].count(b"\n"))
        end = found.end()
    return b"".join([*pieces, source[end:]])


def _is_alone(source: bytes, docstring: re.Match[bytes]) -> bool:
    """Return whether a docstring is the only statement of its block."""
    if not docstring["indent"] or not _HEAD.search(source, max(0, docstring.start() - 200), docstring.start()):
        return False
    following = _NEXT.match(source, docstring.end())
    return following is None or not following["statement"] or len(following["indent"]) < len(docstring["indent"])
