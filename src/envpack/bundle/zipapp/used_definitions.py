"""Reduction of a Python module to what is used of it; every line that stays keeps its number and its text."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable


def with_used_definitions(source: bytes, is_used: Callable[[str], bool]) -> bytes:
    """Return Python source (UTF-8) with empty lines instead of the definitions that nothing needs.

    Functions, classes and constants of the module are left out, unless their names are used, or a statement that
    stays has their name in it. All other statements stay, such as imports, and so do all lines before the first
    statement, which state the licence.

    Args:
        source: The source.
        is_used: Whether a name is used from outside.
    """
    statements = ast.parse(source).body
    definitions = defaultdict(list)
    pending = []
    for statement in statements:
        names = _defined(statement)
        for name in names:
            definitions[name].append(statement)
        if not names or any(map(is_used, names)):
            pending.append(statement)
    kept: set[ast.stmt] = set()
    while pending:
        statement = pending.pop()
        if statement in kept:
            continue
        kept.add(statement)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                pending += definitions.get(node.id, ())
    return _only_lines_of(source, statements, kept)


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines; none for one that does more than that."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []


def _only_lines_of(source: bytes, statements: list[ast.stmt], kept: set[ast.stmt]) -> bytes:
    lines = source.splitlines(keepends=True)
    wanted = set(range(_first_line(statements[0]))) if statements else set()
    for statement in kept:
        wanted.update(range(_first_line(statement), statement.end_lineno or statement.lineno))
    return b"".join(line if number in wanted else b"\n" for number, line in enumerate(lines))


def _first_line(statement: ast.stmt) -> int:
    """Return the index of the first line, that of a decorator included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(each.lineno for each in decorators)]) - 1
