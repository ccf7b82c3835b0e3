"""`run`, `unit` and `metrics` from a deployment alone: no envpack on PATH, and a user who owns nothing there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.runtime.format.services import Service
from support.small_prefix import SmallPrefix

OTHER = 12345
PATH = "/usr/bin:/bin"
BARE = shutil.which("python3", path="/usr/bin") or sys.executable
WRITTEN_BY_ITS_OWNER = r"hint: Run \S+/bin/conda-unpack once as its owner \(\S+\), on a disk that can be written\."


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that any user may enter, with a bundle in it; that of pytest is closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        prefix = SmallPrefix(place / "prefix")
        prefix.link("bin/python", BARE)
        prefix.write("etc/of-the-prefix", f"{prefix.path}\n")
        prefix.pack(
            place / "b.tar.gz",
            outside="keep",
            name="demo",
            version="1.0",
            commands={"serve": "cat $CONDA_PREFIX/etc/of-the-prefix; id -u; exit 5", "logged": "echo hello"},
            services={"serve": Service(), "logged": Service(log="logs")},
        )
        shutil.rmtree(prefix.path)
        deploy = [sys.executable, "-m", "envpack", "deploy", "b.tar.gz", "deployed"]
        subprocess.run(deploy, cwd=place, check=True, capture_output=True, umask=0o022)
        (place / "unpacked").mkdir()
        subprocess.run(["tar", "-xzf", "b.tar.gz", "-C", "unpacked"], cwd=place, check=True, umask=0o022)
        (place / "unpacked").chmod(0o755)
        yield place


@pytest.fixture(params=["bare", "own"])
def runtime(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    root = folder / "deployed"
    python = BARE if request.param == "bare" else str(root / "bin/python")
    return [python, "-I", "-S", str(root / ".envpack/runtime.pyz")]


def alone(*command: object, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    """Run a command as a user who owns nothing; as this user where this is not root."""
    words = [str(word) for word in command]
    environ = {"PATH": PATH, "HOME": "/nonexistent"}
    if os.geteuid() != 0:
        return subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True)
    return subprocess.run(
        words, cwd=cwd, env=environ, capture_output=True, text=True, user=OTHER, group=OTHER, extra_groups=[]
    )


def user() -> int:
    return OTHER if os.geteuid() == 0 else os.geteuid()


def test_run(folder: Path, runtime: list[str]) -> None:
    root = folder / "deployed"
    for words in ([*runtime, "run", root, "serve"], [root / "bin/serve-run"]):
        done = alone(*words)
        assert (done.returncode, done.stdout, done.stderr) == (5, f"{root}\n{user()}\n", "")
    done = alone(*runtime, "run", root, "--", "sh", "-c", 'command -v envpack; echo "$CONDA_PREFIX"')
    assert (done.returncode, done.stdout) == (0, f"{root}\n")


def test_a_log_where_this_user_can_not_write(folder: Path, runtime: list[str]) -> None:
    done = alone(*runtime, "run", folder / "deployed", "logged", cwd="/proc")
    assert (done.returncode, done.stdout) == (78, "")
    assert "Run it in a directory that you can write, or choose one: --log DIR" in done.stderr
    done = alone(*runtime, "run", folder / "deployed", "logged", "--log", "-", cwd="/proc")
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_unit(folder: Path, runtime: list[str]) -> None:
    root = folder / "deployed"
    done = alone(*runtime, "unit", root, "serve")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"ExecStart={root}/bin/serve-run --log -" in lines
    (account,) = (line for line in lines if line.startswith("User="))
    assert account != "User=root"


def test_metrics(folder: Path, runtime: list[str]) -> None:
    root = folder / "deployed"
    done = alone(*runtime, "metrics", root)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = re.findall(r"^envpack_deployment_info\{.*\} 1$", done.stdout, re.MULTILINE)
    assert f'path="{root}"' in line and '"demo"' in line and '"1.0"' in line


def test_what_another_user_unpacked_with_tar(folder: Path) -> None:
    """Root often unpacks, and a service's user starts: the path is written by the owner, once."""
    root = folder / "unpacked"
    activate = ("sh", "-c", f". {root}/bin/activate && cat {root}/etc/of-the-prefix")
    for place in (root, root / ".envpack"):
        place.chmod(0o555)  # for where this user is the owner
    try:
        done = alone(*activate)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search(WRITTEN_BY_ITS_OWNER, done.stderr)
        done = alone(root / "bin/serve-run")
        assert (done.returncode, done.stdout) == (78, "")
        assert re.search(WRITTEN_BY_ITS_OWNER, done.stderr) and done.stderr.count("error: ") == 1
    finally:
        for place in (root, root / ".envpack"):
            place.chmod(0o755)
    subprocess.run([root / "bin/conda-unpack"], check=True, capture_output=True, umask=0o022)
    assert alone(*activate).stdout == f"{root}\n"
    done = alone(root / "bin/serve-run")
    assert (done.returncode, done.stdout, done.stderr) == (5, f"{root}\n{user()}\n", "")
