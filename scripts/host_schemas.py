"""The parts of the JSON schemas of check, doctor and inspect that follow from the source of the host checks.

Names and order of members come from the dataclasses. What the schema says of a member stays; a new one gets the
schema of its type, and the description in its class's docstring.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import envpack
from envpack.runtime.format.needs import Compiler, DetectedNeeds, Evidence
from envpack.runtime.host.checks.registry import REQUIREMENTS
from envpack.runtime.host.facts import HostFacts

FOLDER = Path(envpack.__file__).parent / "schemas"

PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
}


def check() -> str:
    """Return the schema of ``envpack check``, with the names of requirements as examples."""
    schema = read("check")
    result = schema["properties"]["result"]["anyOf"][0]["properties"]
    result["verdicts"]["items"]["properties"]["requirement"]["examples"] = list(REQUIREMENTS)
    return written(schema)


def doctor() -> str:
    """Return the schema of ``envpack doctor``, with the facts of a host as `HostFacts` has them."""
    schema = read("doctor")
    facts = schema["properties"]["result"]["anyOf"][0]["properties"]["facts"]
    of_class(facts, HostFacts, first=("format",))
    return written(schema)


def needs() -> str:
    """Return the schema of ``envpack inspect``, with the needs as `DetectedNeeds` has them."""
    schema = read("inspect")
    found = schema["properties"]["result"]["anyOf"][0]["properties"]["needs"]
    of_class(found, DetectedNeeds)
    return written(schema)


SCHEMAS: dict[str, Callable[[], str]] = {"check": check, "doctor": doctor, "inspect": needs}


def read(name: str) -> dict[str, Any]:
    """Return a schema as its file has it."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}-1.json").read_text(encoding="utf-8"))
    return schema


def written(schema: dict[str, Any]) -> str:
    """Return the text of a schema's file."""
    return json.dumps(schema, indent=2) + "\n"


def of_class(schema: dict[str, Any], cls: type, first: tuple[str, ...] = ()) -> dict[str, Any]:
    """Let the members of a JSON object's schema be the fields of a dataclass.

    Args:
        schema: The schema of the object, changed in place and returned.
        cls: The dataclass.
        first: Members that the dataclass does not have.
    """
    types, said, known = typing.get_type_hints(cls), described(cls), schema.get("properties", {})
    members = {name: known[name] for name in first}
    for name, kind in types.items():
        members[name] = known.get(name) or {**of_type(kind), "description": said[name]}
        inner = next((part for part in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(part)), None)
        place = members[name].get("items", members[name])
        if "properties" in place:
            of_class(place, typing.cast(type, inner))
    schema.update(properties=members, required=list(members))
    return schema


def of_type(kind: Any) -> dict[str, Any]:
    """Return the schema of a type: a plain one, a dataclass, a tuple of one type, or one of these or None."""
    arguments = typing.get_args(kind)
    if type(None) in arguments:
        return {"anyOf": [of_type(arguments[0]), {"type": "null"}]}
    if arguments:
        return {"type": "array", "items": of_type(arguments[0])}
    if kind in (Evidence, Compiler):
        return {"$ref": f"#/$defs/{kind.__name__.lower()}"}
    if dataclasses.is_dataclass(kind):
        return of_class({"type": "object", "additionalProperties": False}, typing.cast(type, kind))
    return PLAIN[kind]


def described(cls: type) -> dict[str, str]:
    """Return the descriptions of a class's attributes, from its docstring, by name."""
    _, _, attributes = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
