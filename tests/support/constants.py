"""Python code with given constants in it."""

from __future__ import annotations

import ast
from collections.abc import Sequence


class _Fill(ast.NodeTransformer):
    def __init__(self, values: Sequence[str]) -> None:
        self._values = values

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and node.value.isdigit():
            return ast.copy_location(ast.Constant(self._values[int(node.value)]), node)
        return node


def with_constants(source: str, values: Sequence[str]) -> ast.Module:
    """``source`` with ``values`` in the places of ``'0'``, ``'1'`` ...; every line and column is kept as it is."""
    module: ast.Module = _Fill(values).visit(ast.parse(source))
    return module
