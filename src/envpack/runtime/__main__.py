"""The command line of the runtime inside a bundle: ``python .envpack/runtime.pyz COMMAND``.

For hosts where envpack is not installed; ``envpack`` itself is a richer shell over the same calls.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Sequence

from envpack.runtime.command_table import COMMANDS, EVERY_COMMAND
from envpack.runtime.errors import INTERRUPTED, EnvpackError, UsageError, of_the_system
from envpack.runtime.fs.interrupt import no_interrupt_lost
from envpack.runtime.process import begin, leave, require_arguments
from envpack.runtime.report import PlainReporter, Reporter, envelope, print_error, print_result
from envpack.runtime.version import __version__


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"See '{self.prog} --help'.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="envpack-runtime", description="Unpack, deploy and check bundles without installing envpack."
    )
    parser.add_argument("--version", action="version", version=f"envpack {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        its_parser = commands.add_parser(command.name, help=command.help)
        its_parser.set_defaults(run=command.run)
        for names, settings in (*command.arguments, *EVERY_COMMAND):
            its_parser.add_argument(*names, **settings)
    return parser


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """Run one command and return its exit code (see ``envpack.runtime.errors``).

    ``root`` is the directory in which /etc is looked for.
    """
    argv = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _interrupt)
    own, words = _divided(argv)
    command, as_json = "runtime", "--json" in own
    try:
        require_arguments(own)
        arguments = _parser().parse_args(own)
        arguments.words = words
        arguments.system = root
        allowed = getattr(arguments, "allow", ())
        arguments.access = {"wait": getattr(arguments, "wait", False), "any_parent": bool(allowed)}
        command = arguments.command
        reporter = Reporter() if arguments.quiet else PlainReporter(prefix="envpack: ")
        with no_interrupt_lost():
            result: dict[str, Any] = arguments.run(arguments, reporter)
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as problem:
        error = problem if isinstance(problem, EnvpackError) else of_the_system(problem)
        if error is None:
            raise
        if as_json:
            print_result(json.dumps(envelope(command, error=error)))
        print_error(error)
        return error.code
    if as_json:
        print_result(json.dumps(envelope(command, result)))
    return 0


def _divided(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the arguments and, for ``run``, what follows the first ``--``, which is passed on as it is."""
    if argv[:1] != ["run"] or "--" not in argv:
        return argv, ()
    end = argv.index("--")
    return argv[:end], argv[end + 1 :]


def _interrupted() -> int:
    """Report the interrupt; further signals are ignored, as nothing is left to be ended."""
    while True:
        with suppress(KeyboardInterrupt):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            print("envpack: interrupted, nothing was left behind", file=sys.stderr)
            return INTERRUPTED


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    begin()
    leave(main())
