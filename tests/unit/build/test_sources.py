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


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(folder: Path, tag: str) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", tag)


def version(folder: Path) -> str:
    """As setuptools_scm asks for it: the tag, and what was changed in files that git knows."""
    return git(folder, "describe", "--tags") + git(folder, "status", "--porcelain", "--untracked-files=no")


def test_a_part_of_a_repository_is_in_it_at_the_same_path(project: Path, copy: Path) -> None:
    top = project.parent
    write(top / "README.md", top / "other" / "x.txt", project / "node_modules" / "x.js")
    (project / "README.md").symlink_to("../README.md")
    committed(top, "v1.5")
    before = {file: file.read_bytes() for file in (top / ".git").rglob("*") if file.is_file()}
    made = copy_project(project, copy)
    assert made == copy / "project"
    assert names(made) == {*PACKAGE, "README.md"}
    assert version(made) == version(copy) == "v1.5"
    assert git(made, "rev-parse", "--show-prefix") == "project/"
    assert git(made, "branch", "--show-current") == git(top, "branch", "--show-current")
    (made / "pyproject.toml").write_text("changed")
    assert version(made) == "v1.5M project/pyproject.toml"
    assert {file: file.read_bytes() for file in (top / ".git").rglob("*") if file.is_file()} == before


def test_what_was_changed_is_changed_in_the_copy(project: Path, copy: Path) -> None:
    committed(project.parent, "v1.5")
    (project / "pyproject.toml").write_text("changed")
    assert version(copy_project(project, copy)) == "v1.5M project/pyproject.toml"


def test_a_project_with_its_own_repository_is_copied_with_it(project: Path, copy: Path) -> None:
    committed(project, "v1.5")
    assert copy_project(project, copy) == copy
    assert version(copy) == "v1.5"
    assert (copy / ".git" / "objects").is_dir()


def test_a_submodule_stays_in_its_repository(tmp_path: Path, project: Path, copy: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    committed(project, "v1.5")
    git(outer, "init", "-q")
    git(outer, "submodule", "--quiet", "add", str(project), "inner")
    assert (outer / "inner" / ".git").read_text().startswith("gitdir: ../")
    assert copy_project(outer / "inner", copy) == copy
    assert version(copy) == "v1.5"
    assert version(copy_project(outer / "inner" / "pkg", tmp_path / "part")) == "v1.5"


def test_a_part_of_a_repository_may_have_submodules(tmp_path: Path, project: Path, copy: Path) -> None:
    other = tmp_path / "other"
    write(other / "x.c")
    committed(other, "v0.1")
    git(tmp_path, "init", "-q", str(project.parent))
    git(project.parent, "submodule", "--quiet", "add", str(other), "project/vendored")
    committed(project.parent, "v1.5")
    assert version(copy_project(project, copy)) == "v1.5"
    assert version(copy / "project" / "vendored") == "v0.1"


def test_a_further_work_tree_stays_in_its_repository(tmp_path: Path, project: Path, copy: Path) -> None:
    committed(project.parent, "v1.5")
    git(project.parent, "worktree", "add", "-q", "-b", "further", str(tmp_path / "further"))
    made = copy_project(tmp_path / "further" / "project", copy)
    assert version(made) == "v1.5"
    assert git(made, "branch", "--show-current") == "further"


@pytest.mark.parametrize("content", ["gitdir: /nowhere", "", "gitdir: \0"])
def test_a_repository_that_is_not_there_is_left_out(project: Path, copy: Path, content: str) -> None:
    (project / ".git").write_text(content)
    assert copy_project(project, copy) == copy
    assert names(copy) == PACKAGE
    assert not (copy / ".git").exists()


def test_without_git_a_part_of_a_repository_is_copied_alone(
    project: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(project.parent, "v1.5")
    monkeypatch.setenv("PATH", "/nowhere")
    assert names(copy_project(project, copy)) == PACKAGE
    assert [path.name for path in copy.iterdir()] == ["project"]
