"""Manifests of pixi projects: the default environment as a spec, or the reason why it can't be one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envpack.lock.inputs import load_input
from envpack.runtime.errors import SpecError
from envpack.spec.model import EnvSpec
from envpack.spec.pixi import parse_pixi

WORKSPACE = '[workspace]\nname = "my app"\nchannels = ["conda-forge"]\nplatforms = ["linux-64", "osx-arm64"]\n'
PIXI = """\
[workspace]
name = "app"
version = "1.2"
channels = ["conda-forge", { channel = "nvidia", priority = 2 }, "./channel"]
platforms = ["linux-64", "win-64"]

[tasks]
start = "python -m app"

[dependencies]
python = "3.11.*"
numpy = { version = ">=1.26,<3", channel = "conda-forge" }
mkl = { version = "*", build = "*_5" }
curl = "*"

[pypi-dependencies]
flask = ">=2,<4"
exact = { version = "1.0", env-markers = "python_version < '4'" }
rich = { version = "*", extras = ["jupyter"] }
own = { path = ".", editable = true }
tool = { git = "https://h.example/tool.git", tag = "v1", subdirectory = "py" }
wheel = { url = "https://h.example/wheel-1-py3-none-any.whl" }

[pypi-options]
extra-index-urls = ["https://i.example/simple"]
find-links = [{ path = "./links" }]

[system-requirements]
cuda = "12"
libc = { family = "glibc", version = "2.31" }

[activation.env]
MODE = "fast"

[target.linux.dependencies]
curl = ">=8"
[target.osx-arm64.dependencies]
other = "*"
[target.linux-64.activation.env]
THREADS = "4"

[feature.test.dependencies]
pytest = "*"
[environments]
test = ["test"]
"""


def test_the_default_environment_is_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "pixi.toml"
    path.write_text(PIXI)
    spec = load_input(path)
    assert isinstance(spec, EnvSpec)
    assert spec == EnvSpec(
        "app",
        channels=("nvidia", "conda-forge", "./channel"),
        dependencies=("python 3.11.*", "conda-forge::numpy >=1.26,<3", "mkl[build='*_5']", "curl >=8"),
        pip=(
            "--extra-index-url https://i.example/simple",
            "--find-links ./links",
            "flask>=2,<4",
            "exact==1.0 ; python_version < '4'",
            "rich[jupyter]",
            "./.",
            "tool @ git+https://h.example/tool.git@v1#subdirectory=py",
            "wheel @ https://h.example/wheel-1-py3-none-any.whl",
        ),
        variables={"MODE": "fast", "THREADS": "4"},
        version="1.2",
        platform="linux-64",
        requires=spec.requires,
        channel_priority="strict",
    )
    assert spec.requires.as_dict() == {"glibc": "2.31", "cuda": "12"}
    assert (spec.source, spec.directory) == (str(path), tmp_path)


def test_a_pyproject_has_its_own_dependencies_too(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        "[project]\nname = 'app'\nversion = '3'\nrequires-python = '>=3.11'\ndependencies = ['flask>=2']\n"
        "[tool.pixi.project]\nchannels = ['c']\nplatforms = ['linux-64', 'linux-aarch64']\n"
        "[tool.pixi.pypi-dependencies]\napp = { path = '.', editable = true }\n"
    )
    spec = load_input(path)
    assert isinstance(spec, EnvSpec)
    assert (spec.name, spec.version, spec.platform) == ("app", "3", None)
    assert (spec.dependencies, spec.pip) == (("python >=3.11",), ("flask>=2", "./."))


@pytest.mark.parametrize("name", ["pixi.toml", "pyproject.toml"])
def test_a_project_with_a_lock_is_built_from_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[tool.pixi.workspace]\n")
    (tmp_path / "pixi.lock").touch()
    with pytest.raises(SpecError, match="with a lock file") as caught:
        load_input(tmp_path / name)
    assert caught.value.hint.endswith(f"envpack build {tmp_path}/pixi.lock.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[constraints]\na = '*'\n", "pixi.toml:5: 'constraints' can't be read"),
        ("exclude-newer = '2025-01-01'\n", "pixi.toml:5: 'exclude-newer' can't be read"),
        ("chanels = ['nvidia']\n", "pixi.toml:5: 'chanels' can't be read"),
        ("dependencies = { python = '3' }\n", "pixi.toml:5: 'dependencies' can't be read"),
        ("channel-priority = 'flexible'\n", "pixi.toml:5: the channel-priority 'flexible' can't be read"),
        ("[target.linux.host-dependencies]\na = '*'\n", "'host-dependencies' of the target 'linux' can't be read"),
        ("[workspace.pypi-options]\nno-build = true\n", "the option 'no-build' can't be read"),
        ("[environments]\ndefault = ['cuda']\n", "pixi.toml:6: a default environment with features can't be read"),
        ("[dependencies]\nown = { path = 'own' }\n", "pixi.toml:6: own with path can't be read"),
        ("[pypi-dependencies]\na = { version = '*', index = 'https://i' }\n", "pixi.toml:6: a with index can't"),
        ("[activation]\nscripts = ['a.sh']\n", "pixi.toml:6: 'scripts' of the activation can't be read"),
        ("[activation.env]\nPATH = 'x'\n", "pixi.toml:6: 'PATH' is not a name of a variable"),
        ("[dependencies]\nnumpy = '>=>1'\n", "pixi.toml:6: 'numpy >=>1' is not a conda requirement"),
        ("[pypi-dependencies]\nflask = '>=>1'\n", "pixi.toml:6: 'flask>=>1': expected a pip requirement"),
        ("[pypi-options]\nno-build = true\n", "pixi.toml:6: the option 'no-build' can't be read"),
        ("[activation]\nenv = { A = '1', PATH = 'x' }\n", "pixi.toml:6: 'PATH' is not a name of a variable"),
        (
            "[activation.env]\nA = '$CONDA_PREFIX/x'\n",
            "pixi.toml:6: 'A' with a variable in its value can't be read",
        ),
        ("[dependencies]\na = 1\n", "pixi.toml is not a manifest of pixi"),
        ("[target.linux]\ndependencies = [1]\n", "pixi.toml is not a manifest of pixi"),
        ("[system-requirements]\ncuda = 'new'\n", "pixi.toml is not a manifest of pixi"),
        ("[dependencies\n", "pixi.toml: not valid TOML: .* line 5"),
        (f"x = {'[' * 100_000}\n", "pixi.toml: (it is nested too deeply|not valid TOML)"),
    ],
)
def test_what_a_spec_can_t_express_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_pixi(WORKSPACE + text, "pixi.toml")


def test_a_target_needs_a_project_for_one_platform() -> None:
    both = WORKSPACE.replace("osx-arm64", "linux-aarch64")
    with pytest.raises(SpecError, match="several platforms"):
        parse_pixi(f"{both}[target.linux-64.dependencies]\na = '*'\n", "pixi.toml")
    with pytest.raises(SpecError, match="none of the platforms"):
        parse_pixi("[workspace]\nplatforms = ['win-64']\n", "pixi.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pixi.toml is not a manifest of pixi: 'workspace' is missing"),
        ("[workspace]\nchannels = [{ priority = 1 }]\n", "not a manifest of pixi: 'channel' is missing"),
        ("[workspace]\nchannels = 'c'\n", "pixi.toml:2: expected a list, such as channels = ['c']"),
        ("[workspace]\nplatforms = 'x'\n", "pixi.toml:2: expected a list, such as platforms = ['x']"),
    ],
)
def test_a_manifest_has_a_workspace_with_lists(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        parse_pixi(text, "pixi.toml")


def test_what_other_environments_and_programs_have_is_left_out() -> None:
    text = "[workspace.pypi-options]\nindex-url = 'https://i.example/simple'\n"
    text += "[target.win-64.host-dependencies]\na = '*'\n[package]\nname = 'x'\n"
    text += "[feature.x.system-requirements]\ncuda = '12'\n[tool.x]\n"
    spec = parse_pixi(WORKSPACE + text, "pixi.toml")
    assert (spec.dependencies, spec.pip) == ((), ("--index-url https://i.example/simple",))
    assert not spec.requires.as_dict()


@pytest.mark.parametrize(
    ("text", "priority"),
    [("", "strict"), ("channel-priority = 'strict'\n", "strict"), ("channel-priority = 'disabled'\n", "disabled")],
)
def test_the_priority_of_channels_is_that_of_pixi(text: str, priority: str) -> None:
    spec = parse_pixi(WORKSPACE + text, "pixi.toml")
    assert spec.channel_priority == priority
    assert EnvSpec.from_dict(spec.as_dict()).channel_priority == priority


def test_the_name_is_one_that_a_bundle_may_have() -> None:
    assert parse_pixi(WORKSPACE, "pixi.toml").name == "my-app"
    assert parse_pixi("[workspace]\n", "/srv/project/pixi.toml").name == "project"
