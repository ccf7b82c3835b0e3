"""NVIDIA_REQUIRE_CUDA: the expression that the NVIDIA container toolkit checks before it starts a container.

``cuda>=12.4 brand=tesla,driver>=470,driver<471``: a blank is OR, a comma AND. The properties are ``cuda`` (the
version that libcuda supports), ``driver``, ``arch`` (compute capability) and ``brand``. The toolkit ignores
conditions on others (NVIDIA/nvidia-container-toolkit, internal/requirements/constraints).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Tuple

from envpack.runtime.host.tables import driver_at_least
from envpack.runtime.host.versions import compare

PROPERTIES = ("cuda", "driver", "arch", "brand")

_UNKNOWN = "unknown"
"""The brand of a GPU where the driver does not say it; expressions of images name it, too."""
_CONDITION = re.compile(r"(\w+)(!=|<=|>=|=|<|>)(.+)")
_VERSION = re.compile(r"v?(\d{1,18}(?:\.\d{1,18})*)")


@dataclass(frozen=True)
class Condition:
    """One condition, such as ``driver>=470``: a property, an operator of ``= != < <= > >=``, and a value."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.value}"


Expression = Tuple[Tuple[Condition, ...], ...]
"""Alternatives, of which one must hold; in each alternative all conditions must hold."""


def parse(text: str) -> Expression:
    """Parse an expression. Conditions on unknown properties are left out.

    Raises:
        ValueError: A condition is malformed, or no condition has a known property; the message names it.
    """
    alternatives = []
    for term in text.split():
        conditions = [_condition(factor) for factor in term.split(",") if factor]
        known = tuple(condition for condition in conditions if condition.name in PROPERTIES)
        if known:
            alternatives.append(known)
    if not alternatives:
        raise ValueError(f"{text!r} has no condition on {', '.join(PROPERTIES)}")
    return tuple(alternatives)


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a condition such as 'cuda>=12.4' or 'brand=tesla'")
    name, operator, value = match.groups()
    if name in PROPERTIES and name != "brand":
        version = _VERSION.fullmatch(value)
        if version is None:
            raise ValueError(f"{text!r}: {value!r} is not a version")
        value = version[1]
    return Condition(name, operator, value)


def format_expression(expression: Expression) -> str:
    """Return the expression as text that `parse` accepts."""
    return " ".join(",".join(map(str, term)) for term in expression)


def evaluate(expression: Expression, properties: Mapping[str, str]) -> bool | None:
    """Return whether the expression holds for a GPU with these properties; None when a decisive one is unknown."""
    answers = [_all([_holds(condition, properties) for condition in term]) for term in expression]
    return True if True in answers else None if None in answers else False


def _all(answers: list[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


def _holds(condition: Condition, properties: Mapping[str, str]) -> bool | None:
    found = properties.get(condition.name, "")
    if not found or (found == _UNKNOWN and condition.value != _UNKNOWN):
        return None
    if condition.name == "brand":
        order = (found > condition.value) - (found < condition.value)
    elif condition.name == "driver" and condition.operator == ">=":
        return driver_at_least(found, condition.value)
    else:
        order = compare(found, condition.value)
    return {
        "=": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[condition.operator]


def least_cuda(expression: Expression) -> str:
    """Return the lowest CUDA version that an alternative requires with ``cuda>=`` or ``cuda=``; "" for none."""
    stated = [
        condition.value
        for term in expression
        for condition in term
        if condition.name == "cuda" and condition.operator in (">=", "=")
    ]
    least = ""
    for version in stated:
        if not least or compare(version, least) < 0:
            least = version
    return least
