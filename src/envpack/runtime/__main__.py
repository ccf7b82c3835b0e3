"""The command line of the runtime inside a bundle: ``python .envpack/runtime.pyz COMMAND``.

For hosts where envpack is not installed; ``envpack`` itself is a richer shell over the same calls.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence

from envpack.runtime.errors import INTERRUPTED, EnvpackError, HostError, UsageError
from envpack.runtime.format.layout import DIGEST_PATH
from envpack.runtime.process import begin, leave
from envpack.runtime.report import PlainReporter, Reporter, envelope, escape
from envpack.runtime.version import __version__

if TYPE_CHECKING:
    from envpack.runtime.commands.check import Examined

Command = Callable[[argparse.Namespace, Reporter], "dict[str, Any]"]


def _unpack(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.tree.rewrite_prefix import rewrite_prefix

    done = rewrite_prefix(Path(arguments.prefix), reporter)
    return {**vars(done), "changed": list(done.changed)}


def _deploy(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.check import policy
    from envpack.runtime.commands.deploy import DeployOptions, deploy
    from envpack.runtime.commands.signature_requirement import refuse_unchecked
    from envpack.runtime.transport.open import local_path

    refuse_unchecked("a bundle's own runtime can't check any; use 'envpack deploy'", arguments.system)
    options = DeployOptions(
        policy=policy(arguments.gpu, arguments.allow, not arguments.no_check),
        run_tests=not arguments.no_test,
        keep=arguments.keep,
        wait=arguments.wait,
        jobs=arguments.jobs,
        store=Path(arguments.store) if arguments.store else None,
    )
    done = deploy(local_path(arguments.bundle), Path(arguments.destination), options, reporter=reporter)
    reporter.note(f"activate it with: source {done.destination}/bin/activate")
    return done.as_dict()


def _verify(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.verify import verify

    found = verify(arguments.path, reporter=reporter, jobs=arguments.jobs)
    found.require(every=arguments.json)
    for path in found.extra:
        reporter.note(f"no bundle brought {path}")
    reporter.note(f"{found.path} is as it was packed")
    return found.as_dict()


def _check(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.check import examine, facts_from_file
    from envpack.runtime.transport.open import local_path

    path = local_path(arguments.path)
    facts = facts_from_file(Path(arguments.host)) if arguments.host else None
    examined = examine(path, facts=facts, gpu=arguments.gpu, allow=arguments.allow)
    if arguments.stamp is not None:
        _activating(arguments, Path(path), examined)
    else:
        for item in examined.verdicts:
            reporter.note(f"{item.verdict}: {item.requirement}: needs {item.needed}, found {item.found}")
        for item in examined.of("warning"):
            reporter.warn(item.message)
        examined.require("--allow {names} takes it all the same.")
    return examined.as_dict()


def _activating(arguments: argparse.Namespace, path: Path, examined: Examined) -> None:
    """An activation's check: it says nothing but what is wrong, and keeps a stamp when nothing is."""
    from envpack.runtime.host.stamp import keep_stamp

    try:
        examined.require(
            "Once that is done, activate it again; ENVPACK_SKIP_CHECK=1 activates it all the same."
            if not arguments.warn
            else "ENVPACK_SKIP_CHECK=1 keeps envpack from looking."
        )
    except HostError as error:
        error.message = f"{path}{'' if arguments.warn else ' is not activated'}: {error.message}"
        if not arguments.warn:
            raise
        print_error(error, label="warning")
        return
    for item in examined.of("warning"):
        if not item.allowed and item.requirement != "jit":  # of which a deployment has told already
            _tell(f"envpack: warning: {item.message}")
    digest = (path / DIGEST_PATH).read_text(encoding="ascii").split()[0]
    keep_stamp(path, digest, arguments.stamp, os.environ)


def _facts(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.host.detect.gather import gather
    from envpack.runtime.host.facts import facts_to_json

    facts = facts_to_json(gather(Path(arguments.path), root=Path(arguments.root)))
    if not arguments.json:
        print(json.dumps(facts, indent=1))
    return {"facts": facts}


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

    deploy = commands.add_parser(
        "deploy", help="verify a bundle and unpack it to a new place, or over a deployment"
    )
    deploy.add_argument("bundle", metavar="BUNDLE", help="a path, an URL, or - for a pipe")
    deploy.add_argument("destination", metavar="DEST")
    deploy.add_argument("--no-test", action="store_true", help="do not run the bundle's test commands")
    deploy.add_argument("--no-check", action="store_true", help="do not check whether this host can run it")
    deploy.add_argument(
        "--keep", type=int, default=1, metavar="N", help="previous deployments to keep (default: 1)"
    )
    deploy.add_argument(
        "--store",
        metavar="DIR",
        default=os.environ.get("ENVPACK_STORE"),
        help="share files with other deployments through this folder (default: ENVPACK_STORE)",
    )
    add_wait(deploy)
    deploy.set_defaults(run=_deploy)

    life = add_life(commands.add_parser)

    verify = commands.add_parser("verify", help="say which files of a deployment are changed, missing or extra")
    verify.add_argument("path", metavar="BUNDLE|DEST")
    verify.set_defaults(run=_verify)

    check = commands.add_parser("check", help="say whether this host can run a bundle or a deployment")
    check.add_argument("path", metavar="BUNDLE|PREFIX")
    check.add_argument("--host", metavar="FILE", help="another host's facts, as 'facts --json' prints them there")
    check.add_argument("--stamp", help=argparse.SUPPRESS)  # what activation/check.sh calls it with
    check.add_argument("--warn", action="store_true", help=argparse.SUPPRESS)
    check.set_defaults(run=_check)

    for command, default in ((deploy, "required"), (check, None)):
        command.add_argument(
            "--gpu", choices=("required", "optional", "none"), default=default, help="default: required"
        )
        command.add_argument(
            "--allow", metavar="WHAT", action="append", default=[], help="a requirement that may fail; repeatable"
        )

    for command in (deploy, verify):
        command.add_argument("--jobs", type=int, metavar="N", help="processors to use (default: all allowed)")

    facts = commands.add_parser("facts", help="print what there is of this host, for check --host")
    facts.add_argument("path", metavar="PATH", nargs="?", default=".", help="where free disk is looked at")
    facts.add_argument("--root", default="/", metavar="DIR", help="where its /proc, /sys and /dev are")
    facts.set_defaults(run=_facts)

    for each in (unpack, deploy, *life, verify, check, facts):
        each.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        each.add_argument("-q", "--quiet", action="store_true", help="say nothing unless something fails")
    return parser


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """Runs one command; returns its exit code (see ``envpack.runtime.errors``). ``root``: where /etc is."""
    argv = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, _interrupt)
    command, as_json = "runtime", "--json" in argv
    try:
        arguments = _parser().parse_args(argv)
        arguments.system = root
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
        return _interrupted()
    if as_json:
        print(json.dumps(envelope(command, result)))
    return 0


def print_error(error: EnvpackError, label: str = "error") -> None:
    """An error as a person reads it, on stderr; bytes that could steer a terminal are escaped."""
    _tell(f"envpack: {label}: {error.message}")
    for line in error.details:
        _tell(line, "  ")
    if error.hint:
        _tell(f"envpack: hint: {error.hint}")


def _tell(text: str, indent: str = "") -> None:
    """On stderr; on a terminal in lines that end between words."""
    lines = [indent + escape(text)]
    if sys.stderr.isatty():
        import textwrap  # only here, for it takes its time

        with suppress(OSError):
            width = max(40, os.get_terminal_size(sys.stderr.fileno()).columns)
            lines = textwrap.wrap(
                lines[0],
                width,
                subsequent_indent=indent + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    for line in lines:
        print(line, file=sys.stderr)


def _interrupted() -> int:
    """Says so, also to who has no patience: signals that come now have nothing more to end."""
    while True:
        with suppress(KeyboardInterrupt):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            print("envpack: interrupted, nothing was left behind", file=sys.stderr)
            return INTERRUPTED


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


Add = Callable[..., argparse.ArgumentParser]


def add_life(add: Add) -> list[argparse.ArgumentParser]:
    """Adds these commands with ``add``, the ``add_parser`` of subparsers; returns their parsers."""
    rollback = add("rollback", help="switch to the deployment before this one, or to another that is kept")
    rollback.add_argument("--to", type=int, metavar="N", help="the generation to switch to")
    rollback.set_defaults(run=_rollback)

    history = add("history", help="list what was deployed in a place, and what of it is kept")
    history.set_defaults(run=_history)

    move = add("move", help="move a deployment to another place")
    move.add_argument("source", metavar="FROM")
    move.set_defaults(run=_move)

    remove = add("remove", help="remove a deployment and what is kept of it")
    remove.add_argument("--force", action="store_true", help="files that no bundle brought, too")
    remove.set_defaults(run=_remove)

    for command in (rollback, history, remove, move):
        command.add_argument("destination", metavar="TO" if command is move else "DEST")
    for command in (rollback, move, remove):
        add_wait(command)
    return [rollback, history, move, remove]


def add_wait(command: argparse.ArgumentParser) -> None:
    """The option of every command that changes a deployment."""
    command.add_argument(
        "--wait", action="store_true", help="wait until another envpack process there has finished"
    )


def _rollback(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.rollback import rollback

    done = rollback(Path(arguments.destination), to=arguments.to, reporter=reporter, wait=arguments.wait)
    reporter.note(f"{done.name} {done.version}, generation {done.generation}, is at {done.destination}")
    return done.as_dict()


def _history(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.deployment.history import history

    found = history(Path(arguments.destination))
    for item in found.generations:
        reporter.note(f"{item.entry.generation}: {item.entry.name} {item.entry.version}, {item.state}")
    return found.as_dict()


def _move(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.move import move

    done = move(Path(arguments.source), Path(arguments.destination), reporter=reporter, wait=arguments.wait)
    reporter.note(f"{done.name} {done.version} is at {done.destination}")
    return done.as_dict()


def _remove(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.remove import remove

    done = remove(Path(arguments.destination), force=arguments.force, reporter=reporter, wait=arguments.wait)
    reporter.note(f"{done.destination} is removed")
    return done.as_dict()


if __name__ == "__main__":
    begin()
    leave(main())
