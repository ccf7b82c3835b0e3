"""What a pip section states for one package: hashes of its files, and settings for its build."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from envpack.build.build import build_prefix
from envpack.build.location import choose_prefix
from envpack.lock.solve import PackageSources, solve_lock
from envpack.runtime.errors import BuildError
from envpack.spec.model import EnvSpec
from envpack.spec.parse import parse_spec
from support.reporters import RecordingReporter
from support.tiny_wheels import write_wheel

BACKEND = """\
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.5-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("own.py", f"SETTINGS = {config_settings!r}\\n")
        wheel.writestr("own-1.5.dist-info/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.5\\n")
        wheel.writestr("own-1.5.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("own-1.5.dist-info/RECORD", "own.py,,\\n")
    return name
"""


def spec_of(folder: Path, *lines: str) -> EnvSpec:
    items = "".join(f"      - '{line}'\n" for line in ("-f wheels --no-index", *lines))
    return parse_spec(f"name: x\ndependencies:\n  - python\n  - pip:\n{items}", str(folder / "x.yml"))


def test_only_files_with_a_stated_hash_are_locked(channel_url, tmp_path):
    (tmp_path / "wheels").mkdir()
    wheel = write_wheel(tmp_path / "wheels", {"helper.py": ""}, name="helper")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    sources = PackageSources([channel_url])
    lock = solve_lock(
        spec_of(tmp_path, f"helper --hash=sha256:{digest}"), sources=sources, cache_dir=tmp_path / "cache"
    )
    assert [package.sha256 for package in lock.platform("linux-64").pypi] == [digest]
    with pytest.raises(BuildError, match=r"no file of helper .* has a hash that the pip section states"):
        solve_lock(
            spec_of(tmp_path, f"helper --hash=sha256:{'0' * 64}"), sources=sources, cache_dir=tmp_path / "cache"
        )


def test_a_requirements_file_counts_as_the_section_itself(channel_url, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "deps").mkdir()
    write_wheel(tmp_path / "wheels", {"helper.py": ""}, name="helper")
    write_wheel(tmp_path / "wheels", {"numpy.py": ""}, name="numpy")  # 1.0, older than that of conda
    (tmp_path / "deps" / "limits.txt").write_text("helper==1.0\n")
    (tmp_path / "deps" / "r.txt").write_text("--pre\n-c limits.txt\nhelper\nnumpy==1.0\n")
    spec = parse_spec(
        "name: x\ndependencies:\n- python\n- numpy\n- pip:\n  - -f wheels --no-index\n  - -r deps/r.txt\n",
        str(tmp_path / "x.yml"),
    )
    reporter = RecordingReporter()
    sources = PackageSources([channel_url])
    lock = solve_lock(spec, sources=sources, cache_dir=tmp_path / "cache", reporter=reporter)
    locked = [(package.name, package.version) for package in lock.platform("linux-64").pypi]
    assert locked == [("helper", "1.0"), ("numpy", "1.0")]
    assert any(note.startswith("pip replaces numpy ") for note in reporter.notes)
    (tmp_path / "deps" / "r.txt").write_text("--require-hashes\nhelper\n")
    with pytest.raises(BuildError, match="--require-hashes is set, and the pip section states no hash for helper"):
        solve_lock(spec, sources=sources, cache_dir=tmp_path / "cache")


def test_settings_reach_the_build_of_their_package(channel_url, tmp_path):
    (tmp_path / "wheels").mkdir()
    own = tmp_path / "own"
    own.mkdir()
    (own / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "own"\nversion = "1.5"\n'
    )
    (own / "backend.py").write_text(BACKEND)
    spec = spec_of(tmp_path, f'own @ {own.as_uri()} --config-settings "key=two words"')
    prefix = choose_prefix(tmp_path / "work")
    build_prefix(spec, prefix, sources=PackageSources([channel_url]), cache_dir=tmp_path / "cache")
    (module,) = prefix.glob("lib/python*/site-packages/own.py")
    assert module.read_text() == "SETTINGS = {'key': 'two words'}\n"
