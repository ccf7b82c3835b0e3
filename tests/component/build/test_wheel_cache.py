"""Wheels are fetched once, whatever their host says of caches, and never taken for others."""

from __future__ import annotations

import hashlib
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from envpack.build.pip import cached_hosts, install_pip
from envpack.lock.model import LockedPypi
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter
from envpack.spec.model import EnvSpec
from support.servers import Files, serving
from support.tiny_wheels import write_wheel

NAME = "demo-1.0-py3-none-any.whl"
PATH = f"/packages/fd/56/{NAME}"
"""As on files.pythonhosted.org, where each file has a directory of its own."""


def wheel(folder: Path, content: str) -> bytes:
    return write_wheel(folder, {"demo.py": content}).read_bytes()


def install(files: Files, data: bytes, cache: Path, prefix: Path) -> str:
    """Install the wheel, and return its module."""
    venv.create(prefix, with_pip=False)
    package = LockedPypi("demo", "1.0", f"{files.url}{PATH}", hashlib.sha256(data).hexdigest())
    install_pip(EnvSpec("x"), [package], prefix, index_url=None, cache_dir=cache, reporter=Reporter())
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    return (prefix / library / "demo.py").read_text()


def test_a_wheel_is_fetched_once_and_again_when_it_is_another(tmp_path):
    first, second = wheel(tmp_path, "x = 1\n"), wheel(tmp_path, "x = 2\n")
    with serving({PATH: first}, dated=False) as files:
        assert install(files, first, tmp_path / "cache", tmp_path / "a") == "x = 1\n"
        fetched = len(files.requests)
        assert install(files, first, tmp_path / "cache", tmp_path / "b") == "x = 1\n"
        assert len(files.requests) == fetched
        files.data[PATH] = second
        assert install(files, second, tmp_path / "cache", tmp_path / "c") == "x = 2\n"


@pytest.mark.parametrize("name", ["project", NAME])
def test_a_local_project_that_is_not_there_is_named(tmp_path, name):
    venv.create(tmp_path / "env", with_pip=False)
    package = LockedPypi("demo", "1.0", str(tmp_path / name))
    with pytest.raises(BuildError, match=f"demo can't be installed: there is no {tmp_path / name}"):
        install_pip(EnvSpec("x"), [package], tmp_path / "env", index_url=None, cache_dir=None, reporter=Reporter())


@pytest.mark.parametrize(
    ("locations", "stated", "index"),
    [
        (["https://me:pw@h.example/a/demo.whl", "https://h.example/b.whl"], "", "https://h.example/"),
        (["http://h.example:81/a.whl"], "mine=https://i.example/", "mine=https://i.example/ http://h.example:81/"),
        (["file:///a.whl"], "https://i.example/", None),
    ],
)
def test_the_hosts_are_added_to_the_users_indexes(monkeypatch, locations, stated, index):
    monkeypatch.setenv("UV_INDEX", stated)
    packages = [LockedPypi("demo", "1.0", location, "ab" * 32) for location in locations]
    assert cached_hosts(packages).get("UV_INDEX") == index
    assert cached_hosts([*packages, replace(packages[0], sha256="")]) == {}
