"""The variables that packages and users ask activation to set, and the scripts that set them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Callable, Mapping

from envpack.runtime.errors import PackError, SpecError

STATE = "conda-meta/state"
"""File of ``conda env config vars set`` and of a spec's variables (conda/core/prefix_data.py)."""

FOLDER = "etc/conda/env_vars.d"
"""Folder with the files of packages: one JSON object of names and values each (conda/base/constants.py)."""

_UNSET = "***unset***"
"""Value that ``conda env config vars unset`` records (conda/base/constants.py)."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# what activation itself sets; PATH is also in conda's RESERVED_ENV_VARS (conda/base/constants.py)
_OWN = {"PATH", "PS1", "CONDA_PREFIX", "CONDA_SHLVL", "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER"}
# read-only in one shell or another, or set anew by it
_SHELL = {"_", "UID", "EUID", "GROUPS", "PPID", "PWD", "OLDPWD", "SHLVL", "IFS", "BASHOPTS", "SHELLOPTS"}
_FISH_AND_CSH = {"status", "version", "history", "pipestatus", "argv", "path", "cwd", "prompt", "home"}

RESERVED = frozenset(_OWN | _SHELL | _FISH_AND_CSH)
"""Names that an environment's variables can't have."""


def read_variables(prefix: Path) -> dict[str, str]:
    """Return the variables that conda's activation of an environment sets, by name.

    The files of packages are read in the order of their names; ``conda-meta/state`` comes last and wins
    (``_get_environment_env_vars`` in conda/activate.py).

    Args:
        prefix: The environment.

    Raises:
        PackError: A file of these is no JSON object of names and values.
    """
    return effective({**package_variables(prefix), **_read(prefix / STATE, "env_vars")})


def package_variables(prefix: Path) -> dict[str, str]:
    """Return the variables in the files of packages alone, as they are recorded.

    Raises:
        PackError: A file of these is no JSON object of names and values.
    """
    folder = prefix / FOLDER
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found.update(_read(path))
    return found


def effective(recorded: Mapping[str, object]) -> dict[str, str]:
    """Return the recorded variables that conda sets: neither those marked as unset nor PATH, sorted by name."""
    return {name: str(value) for name, value in sorted(recorded.items()) if value != _UNSET and name != "PATH"}


def _read(path: Path, key: str = "") -> dict[str, str]:
    try:
        if not path.is_file():
            return {}
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            data = json.load(file)
        return dict((data.get(key) or {}) if key else data)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as problem:
        reason = problem if isinstance(problem, (OSError, ValueError)) else "not a JSON object of names and values"
        raise PackError(f"{path} can't be read: {reason}") from None


def settable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every shell can set."""
    return {name: value for name, value in variables.items() if not _reasons(name, value)}


def variable_scripts(variables: Mapping[str, str]) -> dict[str, bytes]:
    """Return the scripts that set variables on activation, by path in the prefix; none for no variables.

    Each is a list of calls of ``_envpack_set NAME VALUE``, which the activation scripts define and undo.

    Raises:
        SpecError: Names or values that an environment variable can't have; the message lists all of them.
    """
    problems = [f"{name}: {reason}" for name in sorted(variables) for reason in _reasons(name, variables[name])]
    if problems:
        raise SpecError(
            "an activation can't set these variables of the environment",
            hint="Rename them, or remove them from 'variables:'.",
            details=problems,
        )
    if not variables:
        return {}
    return {f".envpack/variables.{shell}": _calls(variables, shell) for shell in _QUOTES}


def _reasons(name: str, value: str) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        return ("a name can contain only letters, digits and '_', and can't begin with a digit",)
    if name in RESERVED:
        return ("the name is reserved for shells or for activation scripts",)
    if "\0" in value:
        return ("the value contains a NUL character",)
    return ()


def _calls(variables: Mapping[str, str], shell: str) -> bytes:
    lines = (f"_envpack_set {name} {_QUOTES[shell](variables[name])}\n" for name in sorted(variables))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _quote_sh(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _quote_fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_csh(value: str) -> str:
    """Quote character by character.

    Within quotes tcsh expands ``!``, and takes backslashes as ``backslash_quote``
    says. Only a newline has to stand in quotes (tcsh(1), "Lexical structure").
    """
    return re.sub(r"[\x01-\x09\x0b-\x7f](?<!\w)", r"\\\g<0>", value).replace("\n", "'\\\n'") or "''"


_QUOTES: dict[str, Callable[[str], str]] = {"sh": _quote_sh, "fish": _quote_fish, "csh": _quote_csh}


def current_script(prefix: Path, shell: str) -> bytes:
    """Return the script that sets an environment's variables as its files state them now, changed ones included.

    Args:
        prefix: The environment.
        shell: "sh", "fish" or "csh".

    Raises:
        PackError: As `read_variables`.
    """
    return _calls(settable(read_variables(prefix)), shell)
