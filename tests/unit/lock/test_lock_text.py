"""The text of a lock: read once, and never so that reading it does not end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.lock.formats.explicit import explicit_lock
from envpack.lock.inputs import load_input
from envpack.lock.model import Lock, LockedPypi, named_after, parse_lock
from envpack.runtime.errors import SpecError
from envpack.spec.nodes import check_depth


def test_pip_packages_in_the_comments_of_conda_locks_lists_are_read(tmp_path):
    digest = "ab" * 32
    text = (
        "# platform: linux-64\n@EXPLICIT\n# pip is needed\n"
        f"# pip My_Tool @ https://h.example/tool-1-py3-none-any.whl#sha256={digest}\n"
        "# pip a[extra] @ git+https://h.example/a.git@0123456789abcdef\n"
    )
    lock = explicit_lock(text, tmp_path / "conda-linux-64.lock")
    (platform,) = lock.platforms.values()
    assert platform.pypi == (
        LockedPypi("a", "", "git+https://h.example/a.git@0123456789abcdef"),
        LockedPypi("my-tool", "1", "https://h.example/tool-1-py3-none-any.whl", digest),
    )
    with pytest.raises(SpecError, match=r"conda-linux-64\.lock:2: git\+https://\*\*\*@h\.example/a\.git has"):
        explicit_lock("@EXPLICIT\n# pip a @ git+https://me:pw@h.example/a.git\n", tmp_path / "conda-linux-64.lock")


@pytest.mark.parametrize("opening", ["[", "[[],", "[#]\n", "['a]', ", "{a: ", '{"a":', "{? [] :", "[\n", "[\t"])
def test_a_lock_that_is_nested_too_deeply_is_refused_before_rattler_reads_it(tmp_path, opening):
    text = f"version: 6\nenvironments: {{}}\npackages: {opening * 100_000}\n"
    with pytest.raises(SpecError, match=r"x\.lock:(3: not valid YAML at '.{,70}'| it is nested too deeply)"):
        parse_lock(text, tmp_path / "x.lock")


@pytest.mark.parametrize("item", ["[a, b]", "'[ [ {'", "it's [ {"])
def test_many_brackets_are_no_depth(item):
    check_depth(f"- {item}\n" * 5000, "x.lock")


def test_a_lock_in_a_pipe_is_read_once(tmp_path):
    pipe, reader = os.pipe()
    text = "version: 6\nenvironments:\n  default:\n    channels: []\n    packages: {}\npackages: []\n"
    os.write(reader, text.encode())
    os.close(reader)
    try:
        assert isinstance(load_input(Path(f"/dev/fd/{pipe}")), Lock)
    finally:
        os.close(pipe)


def test_a_pixi_lock_older_than_format_4_has_the_structure_of_conda_lock(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    path.write_text(
        """version: 3
metadata:
  content_hash: {linux-64: c3966519f924c1bb939575751347ce8bb8bfa39fcad33745cb1d712dd269ee2d}
  channels: [{url: "https://conda.anaconda.org/conda-forge/", used_env_vars: []}]
  platforms: [linux-64]
  sources: []
package:
  - platform: linux-64
    name: _libgcc_mutex
    version: "0.1"
    category: main
    manager: conda
    dependencies: []
    url: https://conda.anaconda.org/conda-forge/linux-64/_libgcc_mutex-0.1-conda_forge.tar.bz2
    hash: {md5: d7c89558ba9fa0495403155b64376d81,
      sha256: fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726}
    build: conda_forge
    arch: x86_64
    subdir: linux-64
    build_number: 0
    license: None
    size: 2562
    timestamp: 1578324546067
"""
    )
    lock = load_input(path, None)
    assert isinstance(lock, Lock)
    [package] = lock.platform("linux-64").conda
    assert package.file_name == "_libgcc_mutex-0.1-conda_forge.tar.bz2"


def test_a_conda_lock_file_without_packages_of_main_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(
        "version: 1\nmetadata: {platforms: [linux-64], channels: []}\npackage:\n"
        "- {name: a, category: docs, manager: conda, platform: linux-64}\n"
        "- {name: b, category: dev, manager: conda, platform: linux-64}\n"
        "- {name: b, category: dev, manager: conda, platform: osx-64}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_input(path)
    assert caught.value.message == f"{path} has no packages of the category 'main', only 1 of 'dev', 1 of 'docs'"


def test_a_conda_lock_file_may_have_no_packages(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text("version: 1\nmetadata: {platforms: [linux-64], channels: []}\npackage:\n")
    lock = load_input(path)
    assert isinstance(lock, Lock)
    assert lock.platform("linux-64").conda == ()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tools.lock", "tools"),
        ("qwen.edit.lock", "qwen.edit"),
        ("my tools.lock", "my-tools"),
        ("samtools.linux-64.pin.txt", "samtools"),
        ("pixi.lock", "folder"),
        ("conda-lock.yml", "folder"),
        ("explicit.txt", "folder"),
    ],
)
def test_a_lock_that_holds_no_name_is_named_after_its_file_or_folder(file: str, name: str) -> None:
    assert named_after(Path("/a/folder", file)).name == name
    assert named_after(Path("/a/folder", file), "gpu").name == f"{name}-gpu"
