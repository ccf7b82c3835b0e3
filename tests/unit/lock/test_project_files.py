"""The file that envpack build uses without an argument, and messages about files that are no spec."""

from __future__ import annotations

import pytest

from envpack.lock.inputs import load_input
from envpack.lock.project_files import find_spec
from envpack.runtime.errors import SpecError, UsageError
from envpack.spec.model import EnvSpec


@pytest.mark.parametrize("name", ["environment.yml", "environment.yaml"])
def test_the_spec_of_a_folder_is_taken(tmp_path, name):
    (tmp_path / name).write_text("name: x\ndependencies: [python]\n")
    (tmp_path / "pixi.lock").touch()
    assert find_spec(tmp_path) == tmp_path / name
    spec = load_input(tmp_path)
    assert isinstance(spec, EnvSpec) and spec.source == str(tmp_path / name)


def test_the_manifest_of_a_pixi_project_is_taken_unless_it_has_a_lock(tmp_path):
    (tmp_path / "pixi.toml").write_text("[workspace]\n")
    assert find_spec(tmp_path) == tmp_path / "pixi.toml"
    (tmp_path / "pixi.lock").touch()
    with pytest.raises(UsageError, match=r"there is no environment\.yml in"):
        find_spec(tmp_path)


def test_a_pyproject_with_tables_of_pixi_is_the_manifest_of_a_folder(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    with pytest.raises(UsageError, match=r"there is no environment\.yml in"):
        find_spec(tmp_path)
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write('[tool.pixi.workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n')
    spec = load_input(tmp_path)
    assert isinstance(spec, EnvSpec) and (spec.name, spec.source) == ("x", str(tmp_path / "pyproject.toml"))
    (tmp_path / "pixi.toml").write_text("[workspace]\n")
    assert find_spec(tmp_path) == tmp_path / "pixi.toml"
    (tmp_path / "pixi.lock").touch()
    with pytest.raises(UsageError) as caught:
        find_spec(tmp_path)
    assert caught.value.hint == f"There is a lock file: envpack build {tmp_path}/pixi.lock"


def test_a_folder_without_a_spec_names_the_lock_that_is_there(tmp_path):
    with pytest.raises(UsageError, match=r"there is no environment\.yml in") as caught:
        find_spec(tmp_path)
    assert caught.value.hint == "Give the path of a spec or a lock file."
    (tmp_path / "pixi.lock").touch()
    with pytest.raises(UsageError) as caught:
        load_input(tmp_path)
    assert caught.value.hint == f"There is a lock file: envpack build {tmp_path}/pixi.lock"


@pytest.mark.parametrize(
    ("name", "text", "what", "hint"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\n", "the description of a Python project", "pip: [.]"),
        ("mojoproject.toml", "[project]\n", "the manifest of a pixi project", "pixi.lock"),
        ("setup.py", "import setuptools\n", "the description of a Python project", "pip: [.]"),
        (
            "requirements.txt",
            "# This file may be used to create an environment using:\n# $ conda create\nidna=3.20=py_0\n",
            "a list that 'conda list --export' wrote",
            "conda list --explicit --sha256",
        ),
        ("dev-requirements.txt", "numpy==1\n", "a requirements file", "pip: [-r dev-requirements.txt]"),
        ("poetry.lock", "[[package]]\n", "a lock file of Python packages only", "pip: [.]"),
        ("pylock.toml", "lock-version = '1.0'\n", "a lock file of Python packages only", "pip: [.]"),
        ("Pipfile", "[packages]\n", "a file of pipenv", "'pip:' list"),
        ("meta.yaml", "package:\n  name: x\n", "a recipe of a conda package", "Build the package"),
        ("environment.devenv.yml", "{% set x = 1 %}\n", "a template of conda-devenv", "conda devenv --print"),
        ("python_env.yaml", "python: 3.9\nbuild_dependencies:\n- pip\n", "by MLflow", "conda.yaml"),
        ("dependencies.yaml", "files:\n  all: {}\ndependencies: {}\n", "rapids", "conda/environments"),
        ("anaconda-project.yml", "name: x\nenv_specs:\n  default: {}\n", "an anaconda-project", "environment.yml"),
    ],
)
def test_files_of_other_tools_are_named(tmp_path, name, text, what, hint):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=what) as caught:
        load_input(tmp_path / name)
    assert hint in caught.value.hint


def test_an_explicit_list_may_be_called_requirements(tmp_path):
    (tmp_path / "requirements.txt").write_text("@EXPLICIT\nnonsense\n")
    with pytest.raises(SpecError, match="expected the URL"):
        load_input(tmp_path / "requirements.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_spec_may_have_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "e.yml"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes(f"{mark}name: x\r\ndependencies: [python]\r\n".encode(encoding))
    spec = load_input(path)
    assert isinstance(spec, EnvSpec)
    assert (spec.name, spec.dependencies) == ("x", ("python",))
