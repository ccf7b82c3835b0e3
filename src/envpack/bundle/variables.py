"""The variables that an environment sets when it is activated, and the scripts for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from envpack.prefix import ENVIRONMENT, Entry, Group
from envpack.runtime.activation.variables import package_variables, read_variables, settable, variable_scripts
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
    for group in groups:
        if group.id == ENVIRONMENT and variables:
            scripts = variable_scripts(variables).items()
            added = tuple(Entry(path, "file", size=len(data), content=data) for path, data in scripts)
            ordered = sorted((*group.entries, *added), key=lambda entry: os.fsencode(entry.path))
            group = replace(group, entries=tuple(ordered))
        yield group
