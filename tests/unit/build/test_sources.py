"""Copies of project folders: all that may be in a package is copied, and links lead to the same content."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from envpack.build.sources import copy_project


def write(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a repository of several."""
    folder = tmp_path / "repository" / "project"
    write(folder / "pyproject.toml", folder / "pkg" / "__init__.py")
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "work" / "tool"


PACKAGE = {"pyproject.toml", "pkg/__init__.py"}


@pytest.mark.parametrize(
    "path",
    [
        *("pkg/temp.py", "pkg/temp.json", "temp.h", "lib.linux.py", "pkg/temp.d/x.py", "pkg/build/lib.d/x.py"),
        *("build/temp.py", "build/lib.d", "bdist.d/x.py", "venv/__init__.py", "pkg/venv/x.py", "pkg/.venv/x.py"),
        *("pkg/node_modules/x.js", "pkg/.tox/x.ini", "node_modules", "pkg/venv/pyvenv.cfg", "pkg/__pycache__"),
    ],
)
def test_what_may_be_in_a_package_is_copied(project: Path, copy: Path, path: str) -> None:
    write(project / path)
    copy_project(project, copy)
    assert names(copy) == {*PACKAGE, path}


@pytest.mark.parametrize(
    "path",
    [
        *("build/temp.linux-x86_64-cpython-312/x.o", "build/lib.linux-x86_64/x.so", "build/bdist.linux-x86_64/x"),
        *("__pycache__/x.pyc", "pkg/__pycache__/x.pyc", "node_modules/x.js", ".tox/x", ".nox/x"),
    ],
)
def test_what_builds_and_tools_leave_is_not_copied(project: Path, copy: Path, path: str) -> None:
    write(project / path)
    copy_project(project, copy)
    assert names(copy) == PACKAGE


@pytest.mark.parametrize("name", [".venv", "venv", "env", "pkg/env"])
def test_a_virtual_environment_is_not_copied(project: Path, copy: Path, name: str) -> None:
    write(project / name / "pyvenv.cfg", project / name / "lib" / "x.py")
    (project / name / "bin").mkdir()
    (project / name / "bin" / "python").symlink_to("/nowhere/python")
    copy_project(project, copy)
    assert names(copy) == PACKAGE


def test_links_that_lead_out_are_replaced_by_what_they_lead_to(project: Path, copy: Path) -> None:
    outside = project.parent
    write(outside / "README.md", outside / "data" / "a.csv", outside / "common" / "b.csv")
    (outside / "data" / "common").symlink_to("../common")
    (outside / "data" / "same.csv").symlink_to("a.csv")
    (project / "README.md").symlink_to("../README.md")
    (project / "pkg" / "data").symlink_to("../../data")
    copy_project(project, copy)
    assert names(copy) == {*PACKAGE, "README.md", *(f"pkg/data/{name}" for name in ("a.csv", "same.csv"))} | {
        "pkg/data/common/b.csv"
    }
    assert not (copy / "README.md").is_symlink()
    assert not (copy / "pkg" / "data").is_symlink()
    assert (copy / "pkg" / "data" / "same.csv").readlink() == Path("a.csv")
    (copy / "pkg" / "data" / "a.csv").write_text("of the build")
    assert (outside / "data" / "a.csv").read_text() == "a.csv"


@pytest.mark.parametrize("target", ["pyproject.toml", "pkg", "../nowhere", "own", "/", "/usr/nowhere"])
def test_other_links_stay_as_they_are(project: Path, copy: Path, target: str) -> None:
    (project / "own").symlink_to(target)
    copy_project(project, copy)
    assert str((copy / "own").readlink()) == target


@pytest.mark.parametrize("target", ["..", "../..", "../project"])
def test_a_link_to_a_folder_that_holds_it_still_leads_there(project: Path, copy: Path, target: str) -> None:
    (project / "own").symlink_to(target)
    copy_project(project, copy)
    assert (copy / "own").readlink() == (project / target).resolve()


def test_folders_that_lead_to_each_other_have_an_end(project: Path, copy: Path) -> None:
    write(project.parent / "other" / "x.txt")
    (project.parent / "other" / "back").symlink_to("../project")
    (project / "own").symlink_to("../other")
    copy_project(project, copy)
    assert names(copy) == {*PACKAGE, "own/x.txt"}
    assert (copy / "own" / "back").readlink() == project


def test_a_submodule_stays_in_its_repository(tmp_path: Path, project: Path, copy: Path) -> None:
    def git(*words: str, at: Path = project) -> str:
        settings = ["-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *settings, *words], cwd=at, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    outer = tmp_path / "outer"
    outer.mkdir()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("init", "-q", at=outer)
    git("submodule", "--quiet", "add", str(project), "inner", at=outer)
    assert (outer / "inner" / ".git").read_text().startswith("gitdir: ../")
    git("tag", "v1.5", at=outer / "inner")
    copy_project(outer / "inner", copy)
    assert git("describe", "--tags", at=copy) == "v1.5"
    assert git("status", "--porcelain", "--untracked-files=no", at=copy) == ""
