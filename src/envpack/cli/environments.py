"""Selection of an environment: the active one, or one by its name, as conda finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from envpack.runtime.errors import UsageError
from envpack.runtime.fs.io import read_file


def active_environment(environ: Mapping[str, str]) -> Path:
    """Return the active conda environment; raise UsageError when none is active."""
    if environ.get("CONDA_PREFIX"):
        return Path(environ["CONDA_PREFIX"])
    raise UsageError(
        "no environment is active, and none is given", hint="Give its path with -p, or its name with -n."
    )


def find_environment(name: str, environ: Mapping[str, str]) -> Path:
    """Return the folder of the environment called ``name``.

    The search covers the same folders as conda and micromamba: CONDA_ENVS_PATH and CONDA_ENVS_DIRS, the
    ``envs_dirs`` of configuration files, the environments of the installation that is in use or active,
    ``~/.conda/envs``, and those listed in ``~/.conda/environments.txt`` (conda/base/context.py, ``envs_dirs`` and
    ``root_prefix``, and
    https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/custom-env-and-pkg-locations.html).

    Raises:
        UsageError: There is no such environment, or several.
    """
    matches = dict.fromkeys(
        path.resolve() for path in _candidates(name, environ) if (path / "conda-meta").is_dir()
    )
    if len(matches) == 1:
        return next(iter(matches))
    if not matches:
        raise UsageError(
            f"there is no environment named {name!r}",
            hint="Give its path with -p. 'conda env list' shows the paths.",
        )
    raise UsageError(
        f"{len(matches)} environments are named {name!r}",
        hint="Select one by its path, with -p.",
        details=map(str, matches),
    )


def name_of(prefix: Path) -> str:
    """Return the default name of a bundle of the environment: the name of its folder.

    pixi calls its default environments all ``default``: for them it is the name of the project, and for other
    environments of a pixi project ``project-NAME``.
    """
    prefix = prefix.resolve()
    parents = prefix.parents
    if len(parents) > 3 and [parents[0].name, parents[1].name] == ["envs", ".pixi"]:
        return parents[2].name + ("" if prefix.name == "default" else f"-{prefix.name}")
    return prefix.name


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    from envpack.lock.condarc import home_of, installations

    home = home_of(environ)
    roots = list(installations(environ))
    if name in ("base", "root"):
        yield from roots
        return
    for folder in _folders(environ):
        yield folder / name
    yield from (root / "envs" / name for root in roots)
    yield home / ".conda" / "envs" / name
    try:
        registered = read_file(home / ".conda" / "environments.txt").decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    yield from (Path(line) for line in registered if Path(line).name == name)


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the folders of environments that variables and configuration files name."""
    from envpack.lock.condarc import configuration_files

    for variable in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        for folder in filter(None, environ.get(variable, "").split(":")):
            yield _expanded(folder, environ)
    for file in configuration_files(environ):
        for folder in _envs_dirs(file):
            yield _expanded(folder, environ)


def _expanded(folder: str, environ: Mapping[str, str]) -> Path:
    from envpack.lock.condarc import home_of

    for name in ("HOME", "USER"):
        folder = folder.replace(f"${{{name}}}", environ.get(name, "")).replace(f"${name}", environ.get(name, ""))
    return home_of(environ) / folder[2:] if folder.startswith("~/") else Path(folder)


def _envs_dirs(file: Path) -> list[str]:
    """Return ``envs_dirs``, also called ``envs_path``."""
    from envpack.lock.condarc import read_configuration

    document = read_configuration(file)
    matches = [document.get(key) for key in ("envs_dirs", "envs_path")]
    return [
        folder for folders in matches if isinstance(folders, list) for folder in folders if isinstance(folder, str)
    ]
