"""The scripts that activate a deployment: the same files in every bundle, and those for its variables.

The scripts themselves lie next to this module; ``activate`` says in its head what they do and for which shells.
"""

from __future__ import annotations

import os
import pkgutil
import shlex
from typing import Mapping

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
    ".envpack/changed-variables.sh": ("changed-variables.sh", 0o644),
    ".envpack/python.sh": ("python.sh", 0o644),
    # the last ones of their folder, as conda sorts it
    "etc/conda/activate.d/~envpack-check.sh": ("conda-check.sh", 0o644),
    "etc/conda/activate.d/~envpack-check.fish": ("conda-check.fish", 0o644),
    "etc/conda/activate.d/~envpack-check.csh": ("conda-check.csh", 0o644),
}


_OF_SHELLS = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh"}
"""The script for shells that can't read ``bin/activate``, by the name of the program."""


def activation_command(prefix: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the command that activates an environment in the user's shell, which ``SHELL`` names (POSIX, 8.3)."""
    script = _OF_SHELLS.get(os.path.basename(environ.get("SHELL", "")), "activate")
    return f"source {shlex.quote(prefix)}/bin/{script}"


def scripts() -> dict[str, tuple[bytes, int]]:
    """Path in the prefix -> (bytes, mode) of the scripts that every bundle holds."""
    return {path: (_read(name), mode) for path, (name, mode) in _SCRIPTS.items()}


def launcher_path(name: str) -> str:
    """Return the path in the prefix of the script that runs the named command."""
    return f"bin/{name}-run"


def launcher(name: str) -> bytes:
    """Return the script at `launcher_path`; ``name`` has only characters that a shell takes as they are."""
    return _read("named-command").replace(b"@NAME@", name.encode())


def _read(name: str) -> bytes:
    data = pkgutil.get_data(__name__, name)  # from a folder and from a zip alike
    assert data is not None
    return data
