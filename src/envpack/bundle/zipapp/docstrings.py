"""Removal of docstrings from Python source; every other line keeps its number and its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard


def without_docstrings(source: bytes) -> bytes:
    """Return Python source (UTF-8) with empty lines instead of its docstrings.

    Docstrings are all statements that are only a string, those below constants (PEP 258) included. The only
    statement of a block becomes ``pass``. A docstring that shares a line with other code stays.
    """
    lines = source.splitlines(keepends=True)  # as Python counts them: bytes have no other line ends than it has
    for string, alone in _docstrings(ast.parse(source)):
        first, last = string.lineno - 1, (string.end_lineno or string.lineno) - 1
        indent, rest = lines[first][: string.col_offset], lines[last][string.end_col_offset :]
        if indent.strip() or rest.strip():
            continue
        lines[first : last + 1] = [b"\n"] * (last + 1 - first)
        if alone:
            lines[first] = indent + b"pass\n"
    return b"".join(lines)


def _docstrings(node: ast.AST) -> Iterator[tuple[ast.Expr, bool]]:
    """Yield each docstring below ``node``, and whether its block would be empty without it."""
    for name in ("body", "orelse", "finalbody", "handlers"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        strings = [statement for statement in block if _is_string(statement)]
        needed = len(strings) == len(block) and not isinstance(node, ast.Module)
        for statement in block:
            if _is_string(statement):
                yield statement, needed and statement is block[0]
            else:
                yield from _docstrings(statement)


def _is_string(node: ast.AST) -> TypeGuard[ast.Expr]:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
