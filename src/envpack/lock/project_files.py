"""Files of projects: the spec of a folder, and files of other tools that are no spec, named for what they are."""

from __future__ import annotations

import re
from pathlib import Path

from envpack.runtime.errors import SpecError, UsageError
from envpack.runtime.fs.io import read_file

_SPECS = ("environment.yml", "environment.yaml")
_LOCKS = ("environment.lock", "pixi.lock", "conda-lock.yml")
_PIXI = "Give its lock file, which states exact packages: envpack build {folder}pixi.lock."
_PROJECT = "Write an environment.yml with python in its dependencies and '- pip: [.]', which installs the project."

_OTHERS: tuple[tuple[str, str, str, str], ...] = (
    (
        r"mojoproject\.toml",
        "",
        "the manifest of a pixi project",
        "Give its lock file, which 'pixi lock' writes: envpack build {folder}pixi.lock.",
    ),
    (r"pyproject\.toml|setup\.(py|cfg)", "", "the description of a Python project", _PROJECT),
    (
        r".*",
        r"^# This file may be used to create an environment using:$",
        "a list that 'conda list --export' wrote",
        "Write the list with 'conda list --explicit --sha256', or 'conda env export' for a spec.",
    ),
    (
        r".*requirements.*\.(txt|in)",
        "",
        "a requirements file of pip",
        "Write an environment.yml with python in its dependencies and '- pip: [-r {name}]'.",
    ),
    (r"(poetry|uv|pdm|pylock.*)\.(lock|toml)", "", "a lock file of Python packages only", _PROJECT),
    (r"Pipfile(\.lock)?", "", "a file of pipenv", "Write an environment.yml with python and a 'pip:' list."),
    (
        r"(meta|recipe)\.ya?ml",
        r"^(package|recipe):",
        "a recipe of a conda package",
        "Build the package, and name it in the dependencies of an environment.yml.",
    ),
    (
        r".*\.devenv\.ya?ml",
        "",
        "a template of conda-devenv",
        "Give the environment.yml that it is for: conda devenv --print > environment.yml",
    ),
    (
        r"python_env\.ya?ml",
        r"^build_dependencies:",
        "the description of a virtualenv by MLflow",
        "Give the conda.yaml beside it: envpack build {folder}conda.yaml",
    ),
    (
        r"dependencies\.ya?ml",
        r"^files:",
        "the input of rapids-dependency-file-generator",
        "Give one of the files that it generates, mostly in conda/environments.",
    ),
    (
        r".*\.ya?ml",
        r"^env_specs:",
        "the file of an anaconda-project",
        "Write an environment.yml with its packages and channels.",
    ),
)
"""A pattern of the file's name, one of a line in it, what the file is, and what to do."""


_PIXI_TABLE = re.compile(r"^\s*\[tool\.pixi[.\]]", re.MULTILINE)


def is_pixi_manifest(path: Path, text: str) -> bool:
    """Return whether a file is the manifest of a pixi project without a lock.

    Raises:
        SpecError: The project has a lock, which is what its environments are built from.
    """
    if path.name != "pixi.toml" and not (path.name == "pyproject.toml" and _PIXI_TABLE.search(text)):
        return False
    if (path.parent / "pixi.lock").is_file():
        folder = "" if path.parent == Path() else f"{path.parent}/"
        raise SpecError(
            f"{path} is the manifest of a pixi project with a lock file", hint=_PIXI.format(folder=folder)
        )
    return True


def _has_pixi_tables(path: Path) -> bool:
    try:
        return _PIXI_TABLE.search(read_file(path).decode("utf-8", "replace")) is not None
    except OSError:
        return False


def require_spec(path: Path, text: str) -> None:
    """Raise SpecError, with what to do, for a file that is known to be something else than a spec or a lock."""
    for name, line, what, hint in _OTHERS:
        if re.fullmatch(name, path.name) and re.search(line, text, re.MULTILINE):
            folder = "" if path.parent == Path() else f"{path.parent}/"
            raise SpecError(f"{path} is {what}, not a spec", hint=hint.format(folder=folder, name=path.name))


def find_spec(folder: Path) -> Path:
    """Return the environment.yml in a folder, else the manifest of a pixi project without a lock.

    As in pixi, a pixi.toml comes before a pyproject.toml, which counts where it has tables of pixi.

    Raises:
        UsageError: There is none; the hint names a lock file or another project file that is there.
    """
    for name in _SPECS:
        if (folder / name).is_file():
            return folder / name
    if not (folder / "pixi.lock").is_file():
        if (folder / "pixi.toml").is_file():
            return folder / "pixi.toml"
        if _has_pixi_tables(folder / "pyproject.toml"):
            return folder / "pyproject.toml"
    locks = [folder / name for name in _LOCKS if (folder / name).is_file()]
    hint = (
        f"There is a lock file: envpack build {locks[0]}" if locks else "Give the path of a spec or a lock file."
    )
    raise UsageError(f"there is no environment.yml in {folder.absolute()}", hint=hint)
