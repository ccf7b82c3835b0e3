"""Option groups: a dataclass as a command's parameter becomes its options, and comes back filled in."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer

from envpack.cli.options import argument, option
from envpack.cli.typer_command import typer_command


@dataclass(frozen=True)
class Inner:
    level: Annotated[int, option("--level")] = 3


@dataclass(frozen=True)
class Outer:
    inner: Inner
    strict: Annotated[bool, option("--strict")] = False


def command(console: str, *, path: Annotated[str, argument()], outer: Outer, wait: bool = False) -> Any:
    """Do something."""
    return console, path, outer, wait


def run(*words: str) -> Any:
    app = typer.Typer()
    app.command("command")(typer_command(command))
    return typer.main.get_command(app).main(list(words), obj="console", standalone_mode=False)


def test_the_command_gets_the_console_and_its_groups() -> None:
    assert run("here", "--level", "5", "--wait") == ("console", "here", Outer(Inner(5)), True)


@pytest.mark.parametrize("words", [["here", "--json"], ["here", "-v", "-q"]])
def test_the_options_of_every_command_are_accepted_and_not_passed_on(words: list[str]) -> None:
    class Context:
        json = verbose = quiet = False

    app = typer.Typer()
    app.command("command")(typer_command(lambda console: console))
    console = Context()
    assert typer.main.get_command(app).main(words[1:], obj=console, standalone_mode=False) is console
    assert console.json == ("--json" in words)
    assert console.verbose == console.quiet == ("-v" in words)


def test_options_have_the_order_of_parameters_and_fields() -> None:
    names = list(inspect.signature(typer_command(command)).parameters)
    assert names == ["context", "path", "level", "strict", "wait", "json", "verbose", "quiet"]
