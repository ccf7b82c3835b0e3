"""Environment variables in a spec: their names, and reading a mapping of them."""

from __future__ import annotations

import re

from envpack.runtime.activation.variables import RESERVED
from envpack.spec.nodes import Node, Problems, mapping, string

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A name of an environment variable."""


def read_variables(node: Node, what: str, problems: Problems) -> dict[str, str]:
    """Return the variables in a mapping by name; a name that can't be set is a problem.

    Args:
        node: The node of the mapping.
        what: The name of the mapping in messages.
        problems: Receives the problems.
    """
    found: dict[str, str] = {}
    for key, key_node, value in mapping(node, what, problems):
        if not VARIABLE.fullmatch(key):
            problems.add(key_node, f"{key!r} is not a valid name of a variable, expected letters, digits and _")
            continue
        if key in RESERVED:
            problems.add(key_node, f"{key!r} is reserved for shells and activation scripts, expected another name")
            continue
        text = string(value, f"variable {key}", problems)
        if text is not None:
            found[key] = text
    return found
