"""Repositories of project folders that are copied: backends such as setuptools_scm ask git for the version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from envpack.runtime.fs.io import read_file

_GITDIR = b"gitdir: "
_OF_ONE = ("HEAD", "index")
"""The files that each work tree has for itself (https://git-scm.com/docs/gitrepository-layout)."""
_LEFT_OUT = ("diff-files", "--name-only", "-z", "--diff-filter=DT")
_IGNORED = ("update-index", "-z", "--skip-worktree", "--stdin")


def repository_of(project: Path) -> Path | None:
    """Return the top of the repository that a folder is in, if its ``.git`` folder is not in the folder itself."""
    folder = Path(os.path.realpath(project))
    top = next((parent for parent in (folder, *folder.parents) if os.path.lexists(parent / ".git")), None)
    return None if top == folder and (top / ".git").is_dir() else top


def share_repository(top: Path, copy: Path) -> None:
    """Make a folder a work tree of the repository at ``top``, where git finds the same commit and tags.

    The repository is not written to. What was not copied counts as unchanged, since a version would else say that
    something was changed. Where git does not work, the folder is in no repository.

    Args:
        top: The top of the work tree that was copied from.
        copy: The folder that stands for it, with the copied part at its path.
    """
    git = copy / ".git"
    if git.is_file():
        git.unlink()
    git.mkdir()
    try:
        own = _git_folder(top)
        for name in _OF_ONE:
            shutil.copy2(own / name, git / name)
        (git / "modules").symlink_to(Path(os.path.realpath(own)) / "modules")  # submodules name their folder in it
        common = own / "commondir"
        shared = own / os.fsdecode(read_file(common).strip()) if common.exists() else own
        (git / "commondir").write_bytes(os.fsencode(os.path.realpath(shared)) + b"\n")
        _git(copy, _IGNORED, _git(copy, _LEFT_OUT))
    except (OSError, ValueError, subprocess.CalledProcessError):  # ValueError: a path that no file can have
        shutil.rmtree(git)


def _git_folder(top: Path) -> Path:
    """Return the ``.git`` folder of a work tree; submodules and further work trees have a file with its path."""
    git = top / ".git"
    return git if git.is_dir() else top / os.fsdecode(read_file(git).removeprefix(_GITDIR).rstrip(b"\r\n"))


def _git(folder: Path, words: tuple[str, ...], stdin: bytes = b"") -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *words], cwd=folder, env=env, input=stdin, capture_output=True, check=True)
    return done.stdout
