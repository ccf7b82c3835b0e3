"""A command as typer takes it: with the options of its groups, and with those that every command has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any

import typer

from envpack.cli.option_groups import CommonOptions

_CONTEXT = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)


def typer_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for typer that calls ``command`` with the console and its parameters.

    Args:
        command: A function of the console and of parameters that typer understands. A parameter whose type is a
            dataclass stands for the options that are its fields, which may be groups again.

    Returns:
        A function with the command's name, docstring and options, and those of `CommonOptions`. It takes typer's
        context, whose ``obj`` is the console.
    """
    _, *parameters = _parameters(command)
    options = [_CONTEXT, *_expanded(parameters), *_parameters(CommonOptions)]

    def call(context: typer.Context, **values: Any) -> Any:
        return command(context.obj, **{parameter.name: _value(parameter, values) for parameter in parameters})

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {option.name: option.annotation for option in options}
    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [option.replace(kind=Parameter.KEYWORD_ONLY) for option in options]
    )
    return call


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a function, or of a dataclass's constructor, with evaluated annotations."""
    return list(signature(function, eval_str=True).parameters.values())


def _group(parameter: Parameter) -> type[Any] | None:
    """Return the dataclass that a parameter stands for; None for a single option."""
    kind = parameter.annotation
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _expanded(parameters: list[Parameter]) -> Iterator[Parameter]:
    for parameter in parameters:
        group = _group(parameter)
        if group is None:
            yield parameter
        else:
            yield from _expanded(_parameters(group))


def _value(parameter: Parameter, values: Mapping[str, Any]) -> Any:
    group = _group(parameter)
    if group is None:
        return values[parameter.name]
    return group(**{option.name: _value(option, values) for option in _parameters(group)})
