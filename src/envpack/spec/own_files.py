"""Readers of the keys of a spec for the author's own files: ``files:``, ``activate:`` and ``app:``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from envpack.spec.nodes import Node, Problems, mapping, string, strings

ACTIVATE_SUFFIXES = (".sh", ".fish", ".csh")
"""Suffixes of activation scripts: those of conda, for the shells that bundles can be activated in."""

ACTIVATE_FOLDER = "etc/conda/activate.d"
"""Directory of the scripts that conda and envpack run on activation, in the order of their names."""

APP_PATH = "app"
"""Path of an application in the environment, unless the spec gives another one."""


def read_files(node: Node, problems: Problems) -> dict[str, str]:
    """Return the files and directories of a mapping: path in the environment -> path relative to the spec."""
    return dict(_pairs(node, "files", problems))


def read_app(node: Node, problems: Problems) -> dict[str, str]:
    """Return the directory of the application as `read_files` does; without a path it is at `APP_PATH`."""
    if isinstance(node, yaml.MappingNode):
        return dict(_pairs(node, "app", problems))
    text = string(node, "app", problems)
    if text is not None and not text.strip():
        problems.add(node, "app is empty, expected a directory such as src")
    return {APP_PATH: text} if text else {}


def read_activate(node: Node, problems: Problems) -> tuple[str, ...]:
    """Return the paths of activation scripts, relative to the spec."""
    found = []
    for text, item in strings(node, "activate", "a script", problems):
        if text.endswith(ACTIVATE_SUFFIXES):
            found.append(text)
        else:
            problems.add(item, f"activate {text!r}: expected a script with the suffix .sh, .fish or .csh")
    return tuple(found)


def activation_path(number: int, script: str) -> str:
    """Return the path in the environment of a script of ``activate:``.

    Scripts run in the order of their names: after those of packages, and in the order of the spec.

    Args:
        number: Position of the script in the spec, from 1.
        script: Path of the script.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", script.rpartition("/")[2])
    return f"{ACTIVATE_FOLDER}/zz-envpack-{number:03}-{name}"


def _pairs(node: Node, what: str, problems: Problems) -> Iterator[tuple[str, str]]:
    for path, key, value in mapping(node, what, problems):
        if path.startswith("/") or ".." in path.split("/"):
            problems.add(key, f"{what} {path!r}: expected a path in the environment, such as etc/app.yml")
        text = string(value, f"{what} {path}", problems)
        if text is not None and not text.strip():
            problems.add(value, f"{what} {path} is empty, expected the path of a file or directory")
        elif text is not None:
            yield path, text
