"""``envpack schema``: the JSON Schemas of what ``--json`` prints."""

from __future__ import annotations

import json as _json
from importlib.resources import files
from typing import Annotated, Any

from envpack.cli.console import Console, Result
from envpack.cli.options import argument
from envpack.runtime.errors import UsageError


def names() -> list[str]:
    """Return the names of envpack's schemas: one for each command, and ``envpack`` for no command."""
    found = (entry.name for entry in files("envpack").joinpath("schemas").iterdir())
    return sorted(name.removesuffix("-1.json") for name in found if name.endswith("-1.json"))


def load(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one command's object; raise UsageError for an unknown name."""
    if name not in names():
        raise UsageError(f"there is no schema {name!r}", hint=f"The schemas are: {', '.join(names())}.")
    text = (files("envpack") / "schemas" / f"{name}-1.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = _json.loads(text)
    return schema


def schema(
    console: Console,
    command: Annotated[
        str | None, argument(metavar="[COMMAND]", help="A command. [default: list the schemas]")
    ] = None,
) -> Result:
    """Print the JSON Schema of a command's --json output.

    \b
    Examples:
      envpack schema
      envpack schema inspect
    """
    if command is None:
        available = names()
        return Result("schema", {"schemas": available}, lambda console: console.out.write("\n".join(available)))
    found = load(command)

    def show(console: Console) -> None:
        console.out.write(_json.dumps(found, indent=2))

    return Result("schema", {"schemas": [command], "schema": found}, show)
