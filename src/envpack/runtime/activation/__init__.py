"""The scripts that activate a deployment: the same files in every bundle, and those for a spec's variables.

Beside this module lie the scripts themselves; ``activate`` says in its head what they do and for which shells.
"""

from __future__ import annotations

import pkgutil
import re
from typing import Callable, Mapping

from envpack.runtime.errors import SpecError

_SCRIPTS = {
    "bin/activate": ("activate", 0o644),
    "bin/activate.fish": ("activate.fish", 0o644),
    "bin/activate.csh": ("activate.csh", 0o644),
    "bin/deactivate": ("deactivate", 0o644),
    "bin/conda-unpack": ("conda-unpack", 0o755),
    ".envpack/deactivate.csh": ("deactivate.csh", 0o644),
    ".envpack/scripts.csh": ("scripts.csh", 0o644),
    ".envpack/set.csh": ("set.csh", 0o644),
    ".envpack/check.sh": ("check.sh", 0o644),
    # the last ones of their folder, as conda sorts it
    "etc/conda/activate.d/~envpack-check.sh": ("conda-check.sh", 0o644),
    "etc/conda/activate.d/~envpack-check.fish": ("conda-check.fish", 0o644),
    "etc/conda/activate.d/~envpack-check.csh": ("conda-check.csh", 0o644),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# what activation itself sets; PATH is also in conda's RESERVED_ENV_VARS (conda/base/constants.py)
_OWN = {"PATH", "PS1", "CONDA_PREFIX", "CONDA_SHLVL", "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER"}
# read-only in one shell or another, or set anew by it
_SHELL = {"_", "UID", "EUID", "GROUPS", "PPID", "PWD", "OLDPWD", "SHLVL", "IFS", "BASHOPTS", "SHELLOPTS"}
_FISH_AND_CSH = {"status", "version", "history", "pipestatus", "argv", "path", "cwd", "prompt", "home"}

RESERVED = frozenset(_OWN | _SHELL | _FISH_AND_CSH)
"""Names that a spec's variables can't have."""


def scripts() -> dict[str, tuple[bytes, int]]:
    """Path in the prefix -> (bytes, mode) of the scripts that every bundle holds."""
    return {path: (_read(name), mode) for path, (name, mode) in _SCRIPTS.items()}


def _read(name: str) -> bytes:
    data = pkgutil.get_data(__name__, name)  # from a folder and from a zip alike
    assert data is not None
    return data


def variable_scripts(variables: Mapping[str, str]) -> dict[str, bytes]:
    """Path in the prefix -> bytes of the scripts that set ``variables`` on activation; nothing for no variables.

    Each is a list of calls of ``_envpack_set NAME VALUE``, which the activation scripts define and undo. Raises
    SpecError for names and values that an environment variable can't have, all of them at once.
    """
    problems = [f"{name}: {reason}" for name in sorted(variables) for reason in _reasons(name, variables[name])]
    if problems:
        raise SpecError(
            "the environment's variables can't be set by an activation",
            hint="Rename them, or leave them out of 'variables:'.",
            details=problems,
        )
    if not variables:
        return {}
    quotes: dict[str, Callable[[str], str]] = {"sh": _quote_sh, "fish": _quote_fish, "csh": _quote_csh}
    return {
        f".envpack/variables.{shell}": "".join(
            f"_envpack_set {name} {quote(variables[name])}\n" for name in sorted(variables)
        ).encode("utf-8", "surrogateescape")
        for shell, quote in quotes.items()
    }


def _reasons(name: str, value: str) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        return ("a name is made of letters, digits and '_', and does not begin with a digit",)
    if name in RESERVED:
        return ("the name belongs to the shells or to the activation itself",)
    if "\0" in value:
        return ("the value has a NUL character in it",)
    return ()


def _quote_sh(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _quote_fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_csh(value: str) -> str:
    """Character by character: within quotes tcsh expands ``!``, and takes backslashes as ``backslash_quote`` says.

    Only a newline has to stand in quotes (tcsh(1), "Lexical structure").
    """
    return re.sub(r"[\x01-\x09\x0b-\x7f](?<!\w)", r"\\\g<0>", value).replace("\n", "'\\\n'") or "''"
