"""The commands of the runtime inside a bundle that have to do with a deployment's life: its argparse side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable

from envpack.runtime.report import Reporter

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
    command.add_argument("--wait", action="store_true", help="wait for another envpack at work there")


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
