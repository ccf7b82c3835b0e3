"""The ``envpack`` command: its subcommands, and the one module that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from envpack.cli.console import Console, Result
from envpack.cli.object_stores import object_stores
from envpack.cli.options import Json, Quiet, Verbose
from envpack.cli.signals import interruptible
from envpack.cli.typer_command import typer_command
from envpack.runtime.errors import INTERRUPTED, EnvpackError, UsageError, of_the_system
from envpack.runtime.process import leave, require_arguments
from envpack.runtime.transport.redact import without_secrets
from envpack.runtime.version import __version__

if TYPE_CHECKING:
    from typing import NoReturn

COMMANDS = (
    "build",
    "lock",
    "pack",
    "convert",
    "inspect",
    "diff",
    "sbom",
    "size",
    "audit",
    "check",
    "deploy",
    "run",
    "shell",
    "unit",
    "rollback",
    "history",
    "list",
    "move",
    "remove",
    "verify",
    "repair",
    "gc",
    "doctor",
    "metrics",
    "release",
    "publish",
    "releases",
    "sign",
    "cache",
    "schema",
)
"""Every command, in the order of use: a module of `envpack.cli.commands`, which has a function of that name."""

WITH_WORDS = ("run",)
"""Commands that pass on what follows ``--`` as it is."""

NO_COMMAND = "envpack"
"""The name in the schema of the JSON object printed when the arguments name no command."""


class Interruption(EnvpackError):  # noqa: N818  these two names are the "type" a JSON reader sees
    code = INTERRUPTED
    when = "interrupted: nothing incomplete is left behind"


class Bug(EnvpackError):  # noqa: N818
    """Something envpack did not foresee."""

    default_hint = (
        "Please report this bug with the command, its output with -v (which prints the traceback), "
        f"and the version, envpack {__version__}."
    )


def load_command(name: str) -> Callable[..., Result]:
    """Return the function of a command."""
    module = import_module(f"envpack.cli.commands.{name}")
    function: Callable[..., Result] = getattr(module, "list_" if name == "list" else name)
    return function


def application(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the typer application with these commands.

    Command modules import slow modules inside their functions.
    """
    app = typer.Typer(
        name="envpack",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
        epilog="Run 'envpack COMMAND --help' for details and examples.",
    )

    @app.callback(invoke_without_command=True)
    def envpack(
        context: typer.Context,
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),
        json: Json = False,
        verbose: Verbose = False,
        quiet: Quiet = False,
    ) -> Any:
        """Build a conda environment, pack it into one relocatable file, deploy it anywhere.

        'envpack build' makes a bundle from a spec, and 'envpack deploy' makes an environment from the bundle, at
        any path and on any machine. That machine needs neither conda nor envpack.

        \b
        Example:
          envpack build environment.yml
          envpack deploy dist/demo-1.0-20251219-linux-64.tar.gz /opt/envs/demo
          source /opt/envs/demo/bin/activate
        """
        if version:
            return Result("version", {"version": __version__}, lambda out: out.out.write(f"envpack {__version__}"))
        if context.invoked_subcommand is None:
            if not context.obj.json:
                context.obj.err.write(context.get_help())
            raise UsageError("a command is missing", hint="Start with 'envpack build SPEC'.")
        return None

    for name in commands:
        app.command(name)(typer_command(load_command(name)))
    return app


def run() -> NoReturn:
    """Run the process of ``envpack`` and ``python -m envpack``, and exit."""
    console = Console.of_process()
    code = main(sys.argv[1:], console)
    if console.output_closed():
        _discard_output()
    leave(code)


def main(argv: Sequence[str], console: Console) -> int:
    """Run one command on ``console`` and return the exit code. Errors of the command are shown, not raised."""
    arguments = list(argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json = "--json" in options  # known before parsing, which may fail
    first = next((word for word in options if not word.startswith("-")), "")
    command = first if first in COMMANDS else NO_COMMAND
    if command in WITH_WORDS:
        console.words = tuple(arguments[len(options) + 1 :]) if "--" in arguments else None
        arguments = options
    try:
        with interruptible(), object_stores(console.environ):
            try:
                if "_ENVPACK_COMPLETE" not in os.environ:
                    require_arguments(arguments)
                result = _invoke(first, arguments, console)
            except typer.Exit as leave:  # --help, --show-completion
                return leave.exit_code
            except SystemExit as leave:  # an answer to the shell that asks for completions
                return leave.code if isinstance(leave.code, int) else 1
            if isinstance(result, Result):
                console.show(result)
            return 0
    except BaseException as problem:
        error = as_error(problem)
        with suppress(OSError):  # a full disk behind stdout or stderr does not change the exit code
            if console.verbose and type(error) in (Bug, EnvpackError):
                import traceback

                traceback.print_exception(problem, file=console.err.file)
            console.fail(command, error)
        return error.code


def _invoke(name: str, arguments: list[str], console: Console) -> Any:
    import typer.main

    if "_ENVPACK_COMPLETE" in os.environ:
        return typer.main.get_command(application()).main(arguments, prog_name="envpack", obj=console)
    # load only the named command: all twenty take a third of the time of "envpack --help"
    command = typer.main.get_command(application([name] if name in COMMANDS else COMMANDS))
    with command.make_context("envpack", arguments, obj=console) as context:
        return command.invoke(context)


def as_error(problem: BaseException) -> EnvpackError:
    """Return any exception of a command as an error with a code, a message and a hint."""
    if isinstance(problem, EnvpackError):
        return problem
    if isinstance(problem, (KeyboardInterrupt, typer.Abort)):
        return Interruption("interrupted; nothing incomplete was left behind")
    if callable(getattr(problem, "format_message", None)):  # the parser's own errors, of click or of typer
        return _usage(problem)
    known = of_the_system(problem)
    if known is not None:
        return known
    what = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    return Bug(f"envpack ran into a bug: {without_secrets(what)}")


def _usage(problem: Any) -> UsageError:
    message = str(problem.format_message()).strip().rstrip(".")
    message, _, suggestion = message.partition(" Did you mean ")
    options = sorted(getattr(problem, "possibilities", None) or ())
    if options:
        message = str(problem.message).rstrip(".")
        suggestion = " or ".join(repr(option) for option in options)
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "envpack"
    hint = f"Did you mean {suggestion.rstrip('?')}?" if suggestion else f"See '{path} --help'."
    if path.split()[-1] in WITH_WORDS and not suggestion:
        hint = f"The arguments of the command follow '--'. See '{path} --help'."
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _discard_output() -> None:
    """Keep Python from writing the remaining output to a pipe without a reader, and from reporting an error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
