"""The variables of an activated prefix, which builds from source see as they would after ``conda activate``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from envpack.runtime.errors import BuildError
from envpack.runtime.fs.io import read_file
from envpack.runtime.transport.redact import without_secrets

_SCRIPT = 'for script do . "$script" >&2; done; exec env -0'
_OF_THE_SHELL = frozenset({"_", "SHLVL", "PWD", "OLDPWD"})


def activated(prefix: Path) -> dict[str, str]:
    """Return the variables that differ from the process's own once ``prefix`` is activated.

    These are PATH and CONDA_PREFIX, the variables of packages (``etc/conda/env_vars.d``) and of the environment
    (``conda-meta/state``), what the scripts in ``etc/conda/activate.d`` set, such as CC of conda's compilers, and
    CUDA_HOME where nvcc is in the prefix (conda/activate.py, ``build_activate``).

    Raises:
        BuildError: A script fails to run.
    """
    environ = {name: value for name, value in os.environ.items() if name != "CONDA_PREFIX"}
    path = os.pathsep.join(filter(None, (str(prefix / "bin"), environ.get("PATH", ""))))
    environ.update(CONDA_PREFIX=str(prefix), CONDA_DEFAULT_ENV=str(prefix), CONDA_SHLVL="1", PATH=path)
    environ.update(_variables(prefix))
    scripts = sorted(map(str, prefix.glob("etc/conda/activate.d/*.sh")))
    if scripts:
        environ = _run(scripts, environ)
    if not environ.get("CUDA_HOME") and (prefix / "bin" / "nvcc").exists():
        environ["CUDA_HOME"] = str(prefix)
    return {
        name: value
        for name, value in environ.items()
        if name not in _OF_THE_SHELL and os.environ.get(name) != value
    }


def _variables(prefix: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for file in sorted(prefix.glob("etc/conda/env_vars.d/*.json")):
        found.update(_texts(json.loads(read_file(file))))
    state = prefix / "conda-meta" / "state"
    if state.is_file():
        found.update(_texts(json.loads(read_file(state)).get("env_vars", {})))
    return found


def _texts(variables: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items()}


def _run(scripts: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables after the scripts, which conda's packages write for bash."""
    shell = shutil.which("bash") or "/bin/sh"
    process = subprocess.run(
        [shell, "-c", _SCRIPT, "activate", *scripts], env=environ, stdin=subprocess.DEVNULL, capture_output=True
    )
    if process.returncode != 0:
        raise BuildError(
            f"the activation scripts of the conda packages failed (exit {process.returncode})",
            details=without_secrets(process.stderr.decode(errors="replace")).splitlines()[-20:],
        )
    pairs = (os.fsdecode(item).partition("=") for item in process.stdout.split(b"\0") if item)
    return {name: value for name, _, value in pairs}
