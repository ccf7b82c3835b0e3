"""Editable installs as pip, uv and setuptools make them: refused by name, left out, or packed as wheels."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.forked import envpack
from support.real_environments import CLEAN, SITE, conda_install, uv_install
from support.trees import snapshot

PROJECT = """\
[build-system]
requires = ["{backend}"]
build-backend = "{hook}"
[project]
name = "{name}"
version = "1.0"
[project.scripts]
{name} = "{module}:main"
"""
SETUP = """\
from setuptools import setup
commands = ["{name}={module}:main"]
setup(name="{name}", version="1.0", packages=["{module}"], entry_points={{"console_scripts": commands}})
"""
KINDS = {
    "by-path": ("setuptools", "setuptools.build_meta", "src/by_path"),
    "by-finder": ("setuptools", "setuptools.build_meta", "by_finder"),
    "by-hatch": ("hatchling", "hatchling.build", "by_hatch"),
}
NAMES = sorted([*KINDS, "by-develop"])


@dataclass(frozen=True)
class Made:
    prefix: Path
    projects: Path
    bundle: Path


def module_of(name: str) -> str:
    return name.replace("-", "_")


def write_project(folder: Path, name: str, package: str, text: str, file: str) -> None:
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(f"def main():\n    print('{name}', __file__)\n")
    (folder / file).write_text(text)


@pytest.fixture(scope="module")
def made(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("editable")
    prefix, projects = folder / "env", folder / "projects"
    conda_install([channel_url], prefix, ["python", "pip"], folder / "cache")
    for name, (backend, hook, package) in KINDS.items():
        text = PROJECT.format(backend=backend, hook=hook, name=name, module=module_of(name))
        write_project(projects / name, name, package, text, "pyproject.toml")
    text = SETUP.format(name="by-develop", module="by_develop")
    write_project(projects / "by-develop", "by-develop", "by_develop", text, "setup.py")
    uv_install(prefix, *(part for name in KINDS for part in ("-e", str(projects / name))))
    # the last one that can do it
    uv_install(prefix, "setuptools<80")
    subprocess.run(
        [prefix / "bin/python", "-W", "ignore", "setup.py", "-q", "develop", "--no-deps"],
        cwd=projects / "by-develop",
        check=True,
        capture_output=True,
    )
    for name in NAMES:
        assert f"/projects/{name}/" in subprocess.check_output([prefix / f"bin/{name}"], text=True)
    return Made(prefix, projects, folder / "bundle.tar.gz")


def test_each_is_refused_by_name_with_its_source_and_what_to_do(made: Made, tmp_path: Path) -> None:
    done = envpack("pack", "-p", made.prefix, "-o", tmp_path / "b.tar.gz", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"]) == (5, "PackError")
    assert [line.split(" (")[0] for line in error["details"]] == [
        f"{name}: {made.projects}/{name}" for name in NAMES
    ]
    assert "--editable" in error["hint"]
    assert list(tmp_path.iterdir()) == []


def test_they_are_left_out_whole_and_the_rest_works(made: Made, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.gz"
    done = envpack("pack", "-p", made.prefix, "-o", bundle, "--editable", "skip", "--json")
    assert json.loads(done.stdout)["result"]["changes"]["left_out"] > len(NAMES)
    assert "of editable installs that are left out" in done.stderr
    assert envpack("deploy", bundle, tmp_path / "to").returncode == 0
    names = {path.name for path in (tmp_path / "to").rglob("*")}
    assert not {name for name in names if "by_" in name or "by-" in name}
    command = [tmp_path / "to/bin/python", "-c", "import setuptools, sys; print(sys.path)"]
    assert str(made.projects) not in subprocess.check_output(command, text=True, env=CLEAN)


@pytest.fixture(scope="module")
def wheels(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment of it with wheels; that nothing else was touched."""
    before = snapshot(made.prefix.parent)
    folder = tmp_path_factory.mktemp("wheels")
    done = envpack("pack", "-p", made.prefix, "-o", folder / "out/b.tar.gz", "--editable", "wheel", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["changes"]["left_out"] == 0
    assert snapshot(made.prefix.parent) == before
    assert [path.name for path in (folder / "out").iterdir()] == ["b.tar.gz"]
    assert envpack("deploy", folder / "out/b.tar.gz", folder / "to").returncode == 0
    return folder / "to"


def test_wheels_of_them_are_packed_as_if_they_were_installed(wheels: Path) -> None:
    for name in NAMES:
        said = subprocess.check_output([wheels / f"bin/{name}"], text=True, env=CLEAN)
        assert said == f"{name} {wheels}/{SITE}/{module_of(name)}/__init__.py\n"
    seen = json.loads(envpack("inspect", wheels.parent / "out/b.tar.gz", "--json").stdout)["result"]
    assert set(NAMES) <= {package["name"] for package in seen["packages"] if package["kind"] == "pypi"}
    listed = subprocess.check_output([wheels / "bin/python", "-m", "pip", "list", "--format=json"], env=CLEAN)
    assert not [item for item in json.loads(listed) if "editable_project_location" in item]


def test_wheels_show_neither_the_sources_nor_where_they_were_built(made: Made, wheels: Path) -> None:
    traces = (os.fsencode(made.projects), os.fsencode(wheels.parent / "out"))
    files = [path for path in wheels.rglob("*") if path.is_file() and path.name != "deployment.json"]
    assert [path for path in files if any(trace in path.read_bytes() for trace in traces)] == []


def test_the_first_import_of_a_wheel_compiles_nothing(wheels: Path) -> None:
    command = [wheels / "bin/python", "-v", "-c", "import by_path, by_develop"]
    said = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=True).stderr
    assert "by_path/__pycache__" in said and "by_develop/__pycache__" in said
    assert not re.search(r"code object from '[^']+\.py'", said)


def test_a_wheel_that_can_t_be_built_is_an_error_with_what_the_build_said(made: Made, tmp_path: Path) -> None:
    setup = made.projects / "by-develop/setup.py"
    text = setup.read_text()
    setup.write_text("raise SystemExit('no compiler today')\n")
    try:
        done = envpack("pack", "-p", made.prefix, "-o", tmp_path / "b.tar.gz", "--editable", "wheel")
    finally:
        setup.write_text(text)
    assert done.returncode == 4
    assert "by-develop can't be built" in done.stderr and "no compiler today" in done.stderr
    assert list(tmp_path.iterdir()) == []
