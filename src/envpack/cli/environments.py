"""Which environment is meant: the active one, or one by its name, as conda finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from envpack.runtime.errors import UsageError


def active(environ: Mapping[str, str]) -> Path:
    """The active conda environment; UsageError when none is."""
    if environ.get("CONDA_PREFIX"):
        return Path(environ["CONDA_PREFIX"])
    raise UsageError(
        "no environment is active, and none is named", hint="Give its folder with -p, or its name with -n."
    )


def find_environment(name: str, environ: Mapping[str, str]) -> Path:
    """The folder of the environment called ``name``; UsageError when there is none, or several.

    Looks where conda and micromamba do: CONDA_ENVS_PATH and CONDA_ENVS_DIRS, the ``envs_dirs`` of configuration
    files, the environments of the installation that is in use or active, ``~/.conda/envs``, and those listed in
    ``~/.conda/environments.txt`` (conda/base/context.py, ``envs_dirs`` and ``root_prefix``, and
    https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/custom-env-and-pkg-locations.html).
    """
    found = dict.fromkeys(path.resolve() for path in _candidates(name, environ) if (path / "conda-meta").is_dir())
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise UsageError(
            f"there is no environment named {name!r}", hint="Give its folder with -p; conda env list shows them."
        )
    raise UsageError(
        f"{len(found)} environments are named {name!r}", hint="Say which with -p.", details=map(str, found)
    )


def name_of(prefix: Path) -> str:
    """What a bundle of the environment is called by default: its folder, and for pixi's, which are all called
    ``default``, that of their project: ``project``, or ``project-NAME`` for its other environments."""
    prefix = prefix.resolve()
    around = prefix.parents
    if len(around) > 3 and [around[0].name, around[1].name] == ["envs", ".pixi"]:
        return around[2].name + ("" if prefix.name == "default" else f"-{prefix.name}")
    return prefix.name


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    home = _home(environ)
    roots = list(_roots(environ))
    if name in ("base", "root"):
        yield from roots
        return
    for folder in _folders(environ, roots):
        yield folder / name
    yield from (root / "envs" / name for root in roots)
    yield home / ".conda" / "envs" / name
    try:
        listed = (home / ".conda" / "environments.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    yield from (Path(line) for line in listed if Path(line).name == name)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _roots(environ: Mapping[str, str]) -> Iterator[Path]:
    """The installations of conda that are in use."""
    for variable, up in (("CONDA_EXE", 2), ("MAMBA_ROOT_PREFIX", 0), ("CONDA_ROOT", 0)):
        if environ.get(variable):
            root = Path(environ[variable])
            yield root.parents[up - 1] if up else root
    # the environments beneath the active one, conda's numbers counting up
    for variable in ("CONDA_PREFIX", "CONDA_PREFIX_1"):
        prefix = Path(environ.get(variable) or "/")
        if prefix.parent.name == "envs" and prefix.parents[1].name != ".pixi":
            yield prefix.parents[1]
        elif (prefix / "condabin").is_dir() or (prefix / "envs").is_dir():
            yield prefix


def _folders(environ: Mapping[str, str], roots: list[Path]) -> Iterator[Path]:
    """The folders of environments that variables and configuration files name."""
    for variable in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        for folder in filter(None, environ.get(variable, "").split(":")):
            yield _expanded(folder, environ)
    for file in _configuration(environ, roots):
        for folder in _envs_dirs(file):
            yield _expanded(folder, environ)


def _expanded(folder: str, environ: Mapping[str, str]) -> Path:
    for name in ("HOME", "USER"):
        folder = folder.replace(f"${{{name}}}", environ.get(name, "")).replace(f"${name}", environ.get(name, ""))
    return _home(environ) / folder[2:] if folder.startswith("~/") else Path(folder)


def _configuration(environ: Mapping[str, str], roots: list[Path]) -> Iterator[Path]:
    """Where conda and mamba look for configuration (conda/base/constants.py, SEARCH_PATH)."""
    home = _home(environ)
    configured = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "conda"
    prefix = [Path(environ["CONDA_PREFIX"])] if environ.get("CONDA_PREFIX") else []
    for folder in (Path("/etc/conda"), Path("/var/lib/conda"), *roots, configured, home / ".conda", *prefix):
        yield from (folder / name for name in (".condarc", "condarc", ".mambarc"))
    yield from (home / ".condarc", home / ".mambarc")
    for variable in ("CONDARC", "MAMBARC"):
        if environ.get(variable):
            yield Path(environ[variable])


def _envs_dirs(file: Path) -> list[str]:
    """``envs_dirs``, also called ``envs_path``; nothing for what can't be read, which conda is to judge."""
    if not file.is_file():
        return []
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    found = [document.get(key) for key in ("envs_dirs", "envs_path")] if isinstance(document, dict) else []
    return [
        folder for folders in found if isinstance(folders, list) for folder in folders if isinstance(folder, str)
    ]
