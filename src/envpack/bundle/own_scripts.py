"""The scripts that envpack adds for one environment: those that set its variables, and one for each command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from envpack.prefix.model import ENVIRONMENT, Entry, Group
from envpack.runtime.activation import launcher, launcher_path
from envpack.runtime.activation.variables import package_variables, read_variables, settable, variable_scripts
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter


def activation_variables(prefix: Path, reporter: Reporter) -> dict[str, str]:
    """Return the variables that activation sets; warn of those of packages that no shell can set.

    Raises:
        PackError: A file that states variables is damaged.
    """
    variables = read_variables(prefix)
    possible = settable(variables)
    left_out = package_variables(prefix).keys() & (variables.keys() - possible.keys())
    for name in sorted(left_out):
        reporter.warn(f"activation does not set {name}, a variable of a package, because shells can't set it")
    return {name: value for name, value in variables.items() if name not in left_out}


def with_variables(groups: tuple[Group, ...], variables: Mapping[str, str]) -> Iterator[Group]:
    """Yield the groups, and add to the environment's own group the scripts that set its variables."""
    scripts = variable_scripts(variables).items()
    return _with(groups, [Entry(path, "file", size=len(data), content=data) for path, data in scripts])


def with_launchers(
    groups: tuple[Group, ...], names: Iterable[str], prefix: Path, reporter: Reporter
) -> Iterator[Group]:
    """Yield the groups, and add to the environment's own group a script ``bin/NAME-run`` for each command.

    A file of the environment with such a name stays, with a warning unless it is that script already.
    """
    present = {entry.path for group in groups for entry in group.entries}
    added = []
    for name in names:
        path, data = launcher_path(name), launcher(name)
        if path not in present:
            added.append(Entry(path, "file", mode=0o755, size=len(data), content=data))
        elif not _has(prefix / path, data):
            reporter.warn(
                f"{path} is a file of the environment, so the command {name} gets no script of this name"
            )
    return _with(groups, added)


def _has(path: Path, data: bytes) -> bool:
    try:
        return read_file(path, len(data) + 1) == data
    except OSError:  # it is one of the own files that the spec adds
        return False


def _with(groups: tuple[Group, ...], added: list[Entry]) -> Iterator[Group]:
    for group in groups:
        if group.id == ENVIRONMENT and added:
            ordered = sorted((*group.entries, *added), key=lambda entry: os.fsencode(entry.path))
            group = replace(group, entries=tuple(ordered))
        yield group
