"""Builds from source see the environment that they are for: its packages, its variables, its programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envpack.build.activation import activated
from envpack.build.build import build_prefix, linking_below
from envpack.build.location import choose_prefix
from envpack.lock.solve import PackageSources, solve_lock
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter
from envpack.spec.parse import parse_spec
from support.tiny_wheels import write_wheel

BACKEND = """\
import json, os, zipfile
import rich  # a conda package

WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def _metadata():
    with open({log!r}, "a") as log:
        log.write(json.dumps([rich.__file__, {{name: os.environ.get(name) for name in {names!r}}}]) + "\\n")
    return "Metadata-Version: 2.1\\nName: own\\nVersion: 1.5\\n"

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = os.path.join(folder, "own-1.5.dist-info")
    os.mkdir(info)
    with open(os.path.join(info, "METADATA"), "w") as file:
        file.write(_metadata())
    return "own-1.5.dist-info"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.5-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("own.py", "X = 1\\n")
        wheel.writestr("own-1.5.dist-info/METADATA", _metadata())
        wheel.writestr("own-1.5.dist-info/WHEEL", WHEEL)
        wheel.writestr("own-1.5.dist-info/RECORD", "own.py,,\\n")
    return name
"""
SPEC = """\
name: x
dependencies:
  - python
  - rich
  - pip:
      - ./own
      - --no-build-isolation
variables: {OF_THE_SPEC: "1"}
"""
NAMES = ("CONDA_PREFIX", "OF_THE_SPEC", "PATH")


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture
def cache(packages, tmp_path) -> Path:
    """A cache that has what earlier tests fetched of conda, and nothing that was built."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "pkgs").symlink_to(packages)
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with a project; its build imports a conda package, and writes its environment to a file."""
    folder = tmp_path / "project"
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "own"\ndynamic = ["version"]\n'
    )
    backend = BACKEND.format(log=str(tmp_path / "log"), names=NAMES)
    (folder / "own" / "backend.py").write_text(backend)
    return folder


def seen(tmp_path: Path) -> list[tuple[str, dict[str, str]]]:
    return [tuple(json.loads(line)) for line in (tmp_path / "log").read_text().splitlines()]


def test_a_build_without_isolation_runs_in_the_linked_environment(project, channel_url, tmp_path, cache):
    spec = parse_spec(SPEC, str(project / "x.yml"))
    prefix = choose_prefix(tmp_path / "work")
    build_prefix(spec, prefix, sources=PackageSources([channel_url]), cache_dir=cache)
    found = seen(tmp_path)
    assert len(found) >= 2  # for its metadata, and for the wheel
    for file, variables in found:
        assert file.startswith(f"{prefix}/lib/")
        assert variables["CONDA_PREFIX"] == str(prefix)
        assert f"{prefix}/bin" in variables["PATH"].split(os.pathsep)
    assert found[-1][1]["OF_THE_SPEC"] == "1"
    assert list(prefix.glob("lib/python*/site-packages/own.py"))


def test_a_lock_of_it_is_made_in_an_environment_that_is_linked_for_this(project, channel_url, tmp_path, cache):
    spec = parse_spec(SPEC, str(project / "x.yml"))
    sources = PackageSources([channel_url])
    with pytest.raises(BuildError):
        solve_lock(spec, sources=sources, cache_dir=cache)  # no environment has both
    link = linking_below(tmp_path / "work", Reporter())
    (package,) = solve_lock(spec, sources=sources, cache_dir=cache, link=link).platform("linux-64").pypi
    assert package.location == str(project / "own")
    assert seen(tmp_path)[-1][0].startswith(f"{tmp_path}/work/")


def test_activation_is_that_of_conda(tmp_path, monkeypatch):
    prefix = tmp_path / "env"
    for folder in ("bin", "conda-meta", "etc/conda/activate.d", "etc/conda/env_vars.d"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "bin" / "nvcc").touch()
    (prefix / "conda-meta" / "state").write_text('{"env_vars": {"A": "state"}, "version": 1}')
    (prefix / "etc/conda/env_vars.d/p.json").write_text('{"A": "package", "B": "package"}')
    scripts = prefix / "etc/conda/activate.d"
    (scripts / "a.sh").write_text('echo noise; export CC="$CONDA_PREFIX/bin/cc" LINES_OF="one\ntwo"\n')
    (scripts / "b.sh").write_text('export FLAGS="$CC -O2"; unset GONE\n')
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("SAME", "1")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    found = activated(prefix)
    assert found["CONDA_PREFIX"] == found["CUDA_HOME"] == str(prefix)
    assert (found["A"], found["B"]) == ("state", "package")
    assert (found["CC"], found["FLAGS"]) == (f"{prefix}/bin/cc", f"{prefix}/bin/cc -O2")
    assert found["LINES_OF"] == "one\ntwo"
    assert found["PATH"].startswith(f"{prefix}/bin{os.pathsep}")
    assert "SAME" not in found


def test_an_activation_script_that_ends_the_shell_is_reported(tmp_path):
    scripts = tmp_path / "etc/conda/activate.d"
    scripts.mkdir(parents=True)
    (scripts / "a.sh").write_text("echo the reason >&2; exit 3\n")
    with pytest.raises(BuildError, match=r"activation scripts .* failed \(exit 3\)") as caught:
        activated(tmp_path)
    assert caught.value.details == ["the reason"]


def test_links_relative_to_the_spec_are_found_when_it_is_built(project, channel_url, tmp_path, cache):
    (project / "wheels").mkdir()
    write_wheel(project / "wheels", {"helper.py": ""}, name="helper")
    own = project / "own"
    (own / "pyproject.toml").write_text((own / "pyproject.toml").read_text().replace("[]", '["helper"]', 1))
    (own / "backend.py").write_text(
        (own / "backend.py").read_text().replace("import rich", "import helper as rich")
    )
    (project / "more.txt").write_text("-f wheels\n./own\n")
    text = SPEC.replace("- --no-build-isolation", "- --no-index").replace("- ./own", "- -r more.txt")
    text = text.replace("  - rich\n", "")
    prefix = choose_prefix(tmp_path / "work")
    spec = parse_spec(text, str(project / "x.yml"))
    build_prefix(spec, prefix, sources=PackageSources([channel_url]), cache_dir=cache)
    assert list(prefix.glob("lib/python*/site-packages/own.py"))
