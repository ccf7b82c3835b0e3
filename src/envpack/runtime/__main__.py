"""The command line of the runtime inside a bundle: ``python .envpack/runtime.pyz COMMAND``.

For hosts where envpack is not installed; ``envpack`` itself is a richer shell over the same calls.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Callable, NoReturn, Sequence

from envpack.runtime.errors import INTERRUPTED, EnvpackError, UsageError
from envpack.runtime.report import PlainReporter, Reporter, envelope
from envpack.runtime.version import __version__

Command = Callable[[argparse.Namespace, Reporter], "dict[str, Any]"]


def _unpack(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.settle import settle

    done = settle(Path(arguments.prefix), reporter)
    return {**vars(done), "changed": list(done.changed)}


def _deploy(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.deploy import deploy

    done = deploy(
        Path(arguments.bundle),
        Path(arguments.destination),
        reporter=reporter,
        jobs=arguments.jobs,
        run_tests=not arguments.no_test,
    )
    reporter.note(f"activate it with: source {done.destination}/bin/activate")
    return done.as_dict()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"See '{self.prog} --help'.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="envpack-runtime", description="Unpack, deploy and check bundles without envpack.")
    parser.add_argument("--version", action="version", version=f"envpack {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    unpack = commands.add_parser(
        "unpack", help="write the prefix into a tree that tar unpacked, or that was moved"
    )
    unpack.add_argument("prefix", metavar="PREFIX", help="the folder the tree lies in")
    unpack.set_defaults(run=_unpack)

    deploy = commands.add_parser("deploy", help="verify a bundle and unpack it to a new place")
    deploy.add_argument("bundle", metavar="BUNDLE")
    deploy.add_argument("destination", metavar="DEST")
    deploy.add_argument("--jobs", type=int, metavar="N", help="threads (default: all processors allowed)")
    deploy.add_argument("--no-test", action="store_true", help="do not run the bundle's test commands")
    deploy.set_defaults(run=_deploy)

    for command in (unpack, deploy):
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        command.add_argument("-q", "--quiet", action="store_true", help="say nothing unless something fails")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see ``envpack.runtime.errors``)."""
    argv = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _interrupt)
    command, as_json = "runtime", "--json" in argv
    try:
        arguments = _parser().parse_args(argv)
        command = arguments.command
        reporter = Reporter() if arguments.quiet else PlainReporter(prefix="envpack: ")
        run: Command = arguments.run
        result = run(arguments, reporter)
    except EnvpackError as error:
        if as_json:
            print(json.dumps(envelope(command, error=error)))
        print_error(error)
        return error.code
    except KeyboardInterrupt:
        print("envpack: interrupted, nothing was left behind", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(json.dumps(envelope(command, result)))
    return 0


def print_error(error: EnvpackError) -> None:
    """An error as a person reads it, on stderr; bytes that could steer a terminal are escaped."""
    print(f"envpack: error: {_printable(error.message)}", file=sys.stderr)
    for line in error.details:
        print(f"  {_printable(line)}", file=sys.stderr)
    if error.hint:
        print(f"envpack: hint: {_printable(error.hint)}", file=sys.stderr)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
