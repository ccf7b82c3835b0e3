"""Copies of project folders to build in: builds leave files in the folder that they build from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from envpack.build.repositories import repository_of, share_repository

_NEVER = ("__pycache__",)
"""Folders that hold no sources, wherever they are."""
_AT_THE_TOP = (".tox", ".nox", "node_modules")
"""Folders that other tools make at the top of a project; a package may have such a name further below."""
_COMPILED = ("temp.*", "lib.*", "bdist.*")
"""Folders in ``build/`` where setuptools leaves compiled files."""


def copy_project(project: Path, folder: Path) -> Path:
    """Copy a project folder to build in, without virtual environments and what earlier builds left.

    setuptools leaves object files in ``build/`` and reuses them in the next build, with the path of the prefix
    they were compiled for. A relative link that leads out of the project is replaced by what it leads to. The copy
    of a project that is a part of a repository is at the same path in a work tree of that repository.

    Args:
        project: The project folder.
        folder: The folder to make.

    Returns:
        The copy, which is ``folder`` or below it.
    """
    source = Path(os.path.realpath(project))
    top = repository_of(source)
    copy = folder / source.relative_to(top) if top else folder
    _copy(source, copy, (source, Path(os.path.realpath(folder))), _left_out(source))
    if top:
        share_repository(top, folder)
    return copy


def _copy(
    source: Path, copy: Path, open_folders: tuple[Path, ...], left_out: Callable[[str, list[str]], set[str]]
) -> None:
    """Copy a folder and what its links lead to; ``open_folders`` are those whose copies are not complete."""
    shutil.copytree(source, copy, symlinks=True, ignore=left_out)
    for link in _links_out(copy):
        origin = source / link.relative_to(copy)
        if origin.exists():
            _replace_link(link, Path(os.path.realpath(origin)), open_folders, left_out)


def _links_out(copy: Path) -> Iterable[Path]:
    """Return the relative links in a copied folder that lead out of it."""
    root = os.path.realpath(copy)
    places = [Path(folder, name) for folder, folders, files in os.walk(copy) for name in (*folders, *files)]
    links = [place for place in places if place.is_symlink() and not place.readlink().is_absolute()]
    return [link for link in links if not Path(os.path.realpath(link)).is_relative_to(root)]


def _replace_link(
    link: Path, target: Path, open_folders: tuple[Path, ...], left_out: Callable[[str, list[str]], set[str]]
) -> None:
    link.unlink()
    if target.is_file():
        shutil.copy2(target, link)
    elif target.is_dir() and not any(folder.is_relative_to(target) for folder in open_folders):
        _copy(target, link, (*open_folders, target), left_out)
    else:  # a device, or a folder that holds this link: its copy would have no end
        link.symlink_to(target)


def _left_out(project: Path) -> Callable[[str, list[str]], set[str]]:
    """Return the function that names what is not copied of a folder, as `shutil.copytree` calls it."""
    top, build = str(project), str(project / "build")

    def left_out(folder: str, names: list[str]) -> set[str]:
        patterns = [*_NEVER, *(_AT_THE_TOP if folder == top else ()), *(_COMPILED if folder == build else ())]
        return {
            name
            for name in names
            if (path := Path(folder, name)).is_dir()
            and (any(fnmatchcase(name, pattern) for pattern in patterns) or _is_virtual_environment(path))
        }

    return left_out


def _is_virtual_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file() and os.path.lexists(folder / "bin" / "python")
