"""The commands of the runtime inside a bundle: the name, the arguments and the function of each."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

from envpack.runtime.errors import HostError
from envpack.runtime.format.layout import DIGEST_PATH
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter, print_bytes, print_error, print_result, print_wrapped

if TYPE_CHECKING:
    from envpack.runtime.commands.check import CheckReport

Argument = Tuple[Tuple[str, ...], Dict[str, Any]]
Run = Callable[[argparse.Namespace, Reporter], "dict[str, Any]"]


def _unpack(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.tree.rewrite_prefix import rewrite_prefix

    done = rewrite_prefix(Path(arguments.prefix), reporter)
    return {**vars(done), "changed": list(done.changed)}


def _deploy(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.activation import activation_command
    from envpack.runtime.commands.check import parse_policy
    from envpack.runtime.commands.deploy import DeployOptions, deploy
    from envpack.runtime.commands.signature_requirement import refuse_unchecked
    from envpack.runtime.transport.open import located

    store = arguments.store if arguments.store is not None else os.environ.get("ENVPACK_STORE")
    refuse_unchecked("the runtime in a bundle can't verify them; use 'envpack deploy'", arguments.system)
    options = DeployOptions(
        policy=parse_policy(arguments.gpu, arguments.allow, not arguments.no_check),
        run_tests=not arguments.no_test,
        keep=arguments.keep,
        wait=arguments.wait,
        jobs=arguments.jobs,
        store=Path(store) if store else None,
        mirrors=arguments.mirror,
    )
    done = deploy(located(arguments.bundle), Path(arguments.destination), options, reporter=reporter)
    reporter.note(f"activate it with: {activation_command(done.destination)}")
    return done.as_dict()


def _verify(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.verify import verify

    found = verify(arguments.path, reporter=reporter, jobs=arguments.jobs)
    found.require(every=arguments.json)
    for path in found.extra:
        reporter.note(f"extra: {path}")
    reporter.note(f"{found.path} matches its bundle")
    return found.as_dict()


def _check(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.check import check, facts_from_file

    path = arguments.path if arguments.stamp is None else Path(arguments.path)
    facts = facts_from_file(Path(arguments.host)) if arguments.host else None
    report = check(path, facts=facts, gpu=arguments.gpu, allow=arguments.allow, start_cuda=arguments.probe)
    if arguments.stamp is not None:
        _report_to_activation(arguments, path, report)
    else:
        for item in report.verdicts:
            reporter.note(f"{item.verdict}: {item.requirement}: needs {item.needed}, found {item.found}")
        for item in report.of("warning"):
            reporter.warn(item.message)
        report.require("--allow {names} ignores this.", with_result=True)
    return report.as_dict()


def _report_to_activation(arguments: argparse.Namespace, path: Path, report: CheckReport) -> None:
    """Report the check of an activation: only what is wrong; keep a stamp when nothing is."""
    from envpack.runtime.host.stamp import keep_stamp

    try:
        report.require(
            "Then activate it again. ENVPACK_SKIP_CHECK=1 skips this check."
            if not arguments.warn
            else "ENVPACK_SKIP_CHECK=1 skips this check."
        )
    except HostError as error:
        error.message = f"{path}{'' if arguments.warn else ' is not activated'}: {error.message}"
        if not arguments.warn:
            raise
        print_error(error, label="warning")
        return
    for item in report.of("warning"):
        # the deployment has warned of the others already
        if not item.allowed and item.requirement not in ("jit", "libraries"):
            print_wrapped(f"envpack: warning: {item.message}")
    digest = read_file(path / DIGEST_PATH).decode("ascii").split()[0]
    keep_stamp(path, digest, arguments.stamp, os.environ)


def _facts(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.host.detect.gather import gather
    from envpack.runtime.host.facts import facts_to_json

    found = gather(Path(arguments.path), root=Path(arguments.root), start_cuda=arguments.probe)
    facts = facts_to_json(found)
    if not arguments.json:
        print_result(json.dumps(facts, indent=1))
    return {"facts": facts}


def _rollback(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.rollback import rollback

    done = rollback(Path(arguments.destination), to=arguments.to, reporter=reporter, **arguments.access)
    reporter.note(f"{done.name} {done.version}, generation {done.generation}, is at {done.destination}")
    return done.as_dict()


def _history(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.deployment.history import history

    found = history(Path(arguments.destination))
    for item in found.generations:
        reporter.note(f"{item.generation}: {item.name} {item.version}, {item.state}")
    return found.as_dict()


def _move(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.move import move

    done = move(Path(arguments.source), Path(arguments.destination), reporter=reporter, **arguments.access)
    reporter.note(f"{done.name} {done.version} is at {done.destination}")
    return done.as_dict()


def _remove(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.remove import remove

    done = remove(Path(arguments.destination), force=arguments.force, reporter=reporter, **arguments.access)
    reporter.note(f"{done.destination} was removed")
    return done.as_dict()


def _metrics(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.metrics import ADDRESS, check_options, metrics, serve_metrics

    destinations = [Path(each) for each in arguments.destination]
    output = Path(arguments.output) if arguments.output is not None else None
    check_options(output, arguments.port, arguments.address, arguments.json)
    if arguments.port is not None:
        serve_metrics(destinations, arguments.address or ADDRESS, arguments.port, reporter)
    done = metrics(destinations, output)
    if output is None and not arguments.json:
        print_bytes(done.text.encode())
    return done.as_dict()


def _run(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.run import require_program, run, start

    given, name, words = Path(arguments.destination), arguments.name, arguments.words
    options = {"log": arguments.log, "port": arguments.port, "reporter": reporter}
    require_program(name, words, arguments.wait_ready, arguments.port)
    if arguments.wait_ready is None:
        run(given, name, words, **options)
    done = start(given, name, words, seconds=arguments.wait_ready, **options)
    if not arguments.json:
        print_result(str(done.pid))
    return done.as_dict()


def _shell(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.run import shell

    shell(Path(arguments.destination), os.environ)


def _unit(arguments: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from envpack.runtime.commands.unit import unit

    options = {name: getattr(arguments, name) for name in ("for_user", "account", "directory", "env_file", "port")}
    text = unit(Path(arguments.destination), arguments.name, **options, reporter=reporter)
    if not arguments.json:
        print_result(text.rstrip("\n"))
    return {"unit": text}


class Command:
    """A command: its name, the function that runs it, its line in the list of commands, and its arguments.

    Each argument is what `argparse.ArgumentParser.add_argument` takes: names and settings.
    """

    def __init__(self, name: str, run: Run, help: str, *arguments: Argument) -> None:
        self.name, self.run, self.help, self.arguments = name, run, help, arguments


def _arg(*names: str, **settings: Any) -> Argument:
    return names, settings


def _flag(*names: str, help: str) -> Argument:
    return names, {"action": "store_true", "help": help}


def _gpu(default: str | None) -> Argument:
    modes = ("required", "optional", "none")
    return _arg("--gpu", choices=modes, default=default, help="how GPU requirements count (default: required)")


_DESTINATION = _arg("destination", metavar="DEST", help="path of the deployment")
_PORT = _arg("--port", type=int, metavar="PORT", help="port of the command (default: as its spec says)")
_WAIT = _flag("--wait", help="wait if another envpack process has locked the path")
_ALLOW = _arg(
    "--allow",
    metavar="WHAT",
    action="append",
    default=[],
    help="ignore this requirement if it is not met; can be repeated",
)
_PROBE = _flag("--probe", help="also initialize CUDA (cuInit), in a child process")
_ANY_PARENT = _arg("--allow", choices=("parent-owner",), help="as root, also below directories of other users")
_ACCESS = (_WAIT, _ANY_PARENT)
_JOBS = _arg("--jobs", type=int, metavar="N", help="number of processors to use (default: all that are available)")

EVERY_COMMAND = (
    _flag("--json", help="print one JSON object on stdout"),
    _flag("-q", "--quiet", help="print errors only"),
)

COMMANDS = (
    Command(
        "unpack",
        _unpack,
        "write the current path into the files of a tree that was unpacked by tar or moved",
        _arg("prefix", metavar="PREFIX", help="the directory of the tree"),
    ),
    Command(
        "deploy",
        _deploy,
        "deploy a bundle to a new path, or upgrade a deployment",
        _arg("bundle", metavar="BUNDLE", help="a path, a URL, or - for standard input"),
        _DESTINATION,
        _flag("--no-test", help="do not run the bundle's test commands"),
        _flag("--no-check", help="do not check whether this host can run it"),
        _arg(
            "--keep", type=int, default=1, metavar="N", help="number of previous generations to keep (default: 1)"
        ),
        _arg("--mirror", action="append", default=[], metavar="URL", help="read packages from there first"),
        _arg("--store", metavar="DIR", help="store of files that deployments share (default: ENVPACK_STORE)"),
        _WAIT,
        _gpu("required"),
        _ALLOW,
        _JOBS,
    ),
    Command(
        "rollback",
        _rollback,
        "switch to the previous generation, or to another one",
        _arg("--to", type=int, metavar="N", help="the generation to switch to"),
        _DESTINATION,
        *_ACCESS,
    ),
    Command("history", _history, "list the generations that were deployed to a path", _DESTINATION),
    Command(
        "move",
        _move,
        "move a deployment to another path",
        _arg("source", metavar="FROM", help="path of the deployment"),
        _arg("destination", metavar="TO", help="new path"),
        *_ACCESS,
    ),
    Command(
        "remove",
        _remove,
        "remove a deployment and its previous generations",
        _flag("--force", help="also remove files that are not from a bundle"),
        _DESTINATION,
        *_ACCESS,
    ),
    Command(
        "verify",
        _verify,
        "list the files of a deployment that are changed, missing or extra",
        _arg("path", metavar="BUNDLE|DEST", help="bundle, or path of a deployment"),
        _JOBS,
    ),
    Command(
        "check",
        _check,
        "check whether this host can run a bundle or a deployment",
        _arg("path", metavar="BUNDLE|PREFIX", help="bundle, or path of an environment"),
        _arg("--host", metavar="FILE", help="facts of another host: the output of 'facts --json' on that host"),
        _arg("--stamp", help=argparse.SUPPRESS),  # what activation/check.sh calls it with
        _flag("--warn", help=argparse.SUPPRESS),
        _PROBE,
        _gpu(None),
        _ALLOW,
    ),
    Command(
        "run",
        _run,
        "run a command of a deployment, or with -- any program, with the deployment activated",
        _DESTINATION,
        _arg("name", metavar="NAME", nargs="?", help="a command of the bundle; what follows -- are its arguments"),
        _arg("--log", metavar="DIR", help="directory for its log file; - for none (default: as its spec says)"),
        _PORT,
        _arg("--wait-ready", type=float, metavar="SECONDS", help="start it, print its pid as soon as it is ready"),
    ),
    Command("shell", _shell, "start an interactive shell with a deployment activated", _DESTINATION),
    Command(
        "unit",
        _unit,
        "print a systemd unit that runs a command of a deployment",
        _DESTINATION,
        _arg("name", metavar="NAME", help="a command of the bundle"),
        _arg("--user", dest="for_user", action="store_true", help="for your own systemd (systemctl --user)"),
        _arg("--run-as", dest="account", metavar="USER", help="user of a system service (default: you)"),
        _arg(
            "--directory", type=Path, metavar="DIR", default=Path(), help="working directory (default: this one)"
        ),
        _PORT,
        _arg("--env-file", type=Path, metavar="FILE", help="file with further environment variables"),
    ),
    Command(
        "metrics",
        _metrics,
        "print or serve metrics of the deployments and GPUs, for Prometheus",
        _arg("destination", metavar="DEST", nargs="*", help="path of a deployment (default: all that are known)"),
        _arg("-o", "--output", metavar="FILE", help="write them to this file, atomically"),
        _arg("--port", type=int, metavar="N", help="serve them at http://ADDRESS:N/metrics"),
        _arg("--address", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)"),
    ),
    Command(
        "facts",
        _facts,
        "print the facts of this host, for check --host",
        _arg("path", metavar="PATH", nargs="?", default=".", help="path for which free disk space is reported"),
        _arg("--root", default="/", metavar="DIR", help="directory that contains /proc, /sys and /dev"),
        _PROBE,
    ),
)
