"""Indexes with a password: uv gets it, other users can't read it, and the order of indexes stays."""

from __future__ import annotations

import base64
import os
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from envpack.build.pip import install_pip
from envpack.build.wheels import install_as_wheels
from envpack.lock.model import LockedPypi
from envpack.lock.uvtool import index_arguments, run_uv
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter
from envpack.spec.model import EnvSpec
from envpack.spec.pip_lines import parse_lines
from support.servers import serving
from support.tiny_wheels import write_wheel

WHEEL = "demo-1.0-py3-none-any.whl"
BASIC = f"Basic {base64.b64encode(b'me:s3cret').decode()}"
PROJECT = "[build-system]\nrequires = ['demo']\nbuild-backend = 'absent'\n[project]\nname = 'own'\nversion = '1'\n"


def command_lines() -> list[str]:
    """The command lines of the programs that this process runs, as every user of the machine can read them."""
    children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in children]


@contextmanager
def index(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """An index with the wheel of demo, with its URL, and the command lines that were seen by each request.

    It requires a password below /closed.
    """
    seen: list[str] = []
    wheel = write_wheel(folder, {"demo.py": "x = 1\n"}).read_bytes()

    def before(handler: Any) -> bool:
        seen.extend(command_lines())
        if handler.path.startswith("/closed") and handler.headers.get("Authorization") != BASIC:
            handler.refuse(401)
            return True
        if not handler.path.endswith(("/demo/", "/links")):
            return False
        page = f'<a href="{handler.path.strip("/").replace("/", "-")}/{WHEEL}">{WHEEL}</a>'.encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.send(memoryview(page))
        return True

    names = ("a", "b", "c", "links", "closed")
    pages = {f"/{name}/demo/{name}-demo/{WHEEL}": wheel for name in names} | {f"/links/{WHEEL}": wheel}
    with serving({**pages, f"/links/links/{WHEEL}": wheel}, before=before) as files:
        yield files.url, seen


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def resolve(folder: Path, *lines: str) -> str:
    """Return what uv resolves demo to, with these options of a pip section."""
    command = [
        "pip",
        "compile",
        "-",
        "--format",
        "pylock.toml",
        "--no-header",
        "--python",
        sys.executable,
        "--quiet",
    ]
    command += index_arguments(parse_lines(lines), None)
    return run_uv(command, "x", cwd=folder, cache_dir=folder / "cache", stdin="demo\n")


def test_a_password_is_used_and_on_no_command_line(tmp_path: Path) -> None:
    with index(tmp_path) as (url, seen):
        closed = url.replace("://", "://me:s3cret@") + "/closed"
        assert f"/closed/demo/closed-demo/{WHEEL}" in resolve(tmp_path, f"-i {closed}")
    assert any("pip compile" in line for line in seen)
    assert not [line for line in seen if "s3cret" in line]


@pytest.mark.parametrize("option", ["--extra-index-url", "--index-url"])
def test_no_step_of_a_build_shows_a_password(tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/pyproject.toml").write_text(PROJECT)
    own = LockedPypi("own", "1", str(tmp_path / "own"))
    with index(tmp_path) as (url, seen):
        closed = url.replace("://", "://me:s3cret@") + "/closed"
        spec = EnvSpec("x", pip=(f"-i {url}/a", f"{option} {closed}"))
        with pytest.raises(BuildError):  # it asks for what the build requires, which has no backend
            install_pip(spec, [own], tmp_path / "env", index_url=None, cache_dir=None, reporter=Reporter())
        monkeypatch.setenv("PIP_INDEX_URL", closed)
        with pytest.raises(BuildError):
            install_as_wheels(
                {tmp_path / "own": "own"}, tmp_path / "env/bin/python", tmp_path / "w", reporter=Reporter()
            )
    assert any("pip install" in line for line in seen)
    assert any(" build --wheel" in line for line in seen)
    assert not [line for line in seen if "s3cret" in line]


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["-i {url}/c", "--extra-index-url {url}/a", "--extra-index-url {url}/b"], "a"),
        (["-i {url}/c", "--extra-index-url {url}/b", "--extra-index-url {url}/a"], "b"),
        (["-i {url}/a", "-i {url}/c"], "c"),
        (["--no-index", "-f {url}/links"], "links"),
    ],
)
def test_indexes_have_the_priority_of_their_order(
    tmp_path: Path, lines: list[str], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_STRATEGY", "first-index")
    with index(tmp_path) as (url, _):
        assert f"{url}/{first}/" in resolve(tmp_path, *(line.format(url=url) for line in lines))


def test_the_users_own_indexes_stay_before_those_of_a_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_STRATEGY", "first-index")
    with index(tmp_path) as (url, _):
        monkeypatch.setenv("UV_INDEX", f"{url}/b")
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", f"{url}/c")
        assert f"{url}/b/" in resolve(tmp_path, f"-i {url}/c", f"--extra-index-url {url}/a")
        monkeypatch.delenv("UV_INDEX")
        assert f"{url}/a/" in resolve(tmp_path, f"-i {url}/c", f"--extra-index-url {url}/a")


def test_local_links_may_have_blanks_in_their_path(tmp_path: Path) -> None:
    folders = [tmp_path / "empty one", tmp_path / "my wheels"]
    for folder in folders:
        folder.mkdir()
    write_wheel(folders[1], {"demo.py": ""})
    assert WHEEL in resolve(tmp_path, "--no-index", *(f"-f '{folder}'" for folder in folders))
