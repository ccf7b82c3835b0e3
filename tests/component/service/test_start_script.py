"""A start script as authors of services write it, on a bundle that `tar` unpacked: real shells, ports and logs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from envpack.runtime.format.services import Service
from support.fake_hosts import A100, T4, Host, build_stubs
from support.small_prefix import SmallPrefix

SCRIPT = """\
{options}
export CONDA_ENV_PATH={root}
cd "$(dirname "$0")"
mkdir -p outputs logs
LOG="logs/start_$(date +%Y%m%d_%H%M%S).log"
{source} $CONDA_ENV_PATH/bin/activate
if [ $? -ne 0 ]; then echo "cannot activate the environment" >&2; exit 3; fi
if {taken}; then echo "port {port} is in use" >&2; exit 4; fi
nohup python -u -m http.server {port} --bind 127.0.0.1 >"$LOG" 2>&1 </dev/null &
echo $!
"""
TAKEN = {
    "lsof": "lsof -i :{port} >/dev/null 2>&1",
    "netstat": "netstat -tuln | grep -q ':{port} '",
    "ss": "ss -ltn | grep -q ':{port} '",
    "bash": "(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null",
}
"""How scripts look at whether a port is taken, by the program that they need for it."""
SHELLS = (["bash"], ["dash"], ["busybox", "sh"])
ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}


@pytest.fixture
def port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        number: int = trial.getsockname()[1]
        return number


def unpacked(folder: Path, **settings: object) -> Path:
    """Return a bundle's directory, as ``mkdir`` and ``tar -xzf`` make it."""
    prefix = SmallPrefix(folder / "prefix")
    prefix.link("bin/python", sys.executable)
    prefix.write("etc/of-the-prefix", f"{prefix.path}\n")
    prefix.pack(folder / "b.tar.gz", outside="keep", name="demo", version="1.0", **settings)
    root = folder / "envs/demo"
    root.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", folder / "b.tar.gz", "-C", root], check=True)
    return root


def start(
    folder: Path,
    root: Path,
    port: int,
    options: str = "",
    environ: Mapping[str, str] = ENVIRON,
    *,
    shell: Sequence[str] = ("bash",),
    tool: str = "bash",
) -> subprocess.CompletedProcess[str]:
    for program in (shell[0], tool):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    script = folder / "start.sh"
    source = "source" if shell[0] == "bash" else "."
    taken = TAKEN[tool].format(port=port)
    script.write_text(SCRIPT.format(options=options, root=root, port=port, source=source, taken=taken))
    return subprocess.run([*shell, script], env=environ, cwd="/", capture_output=True, text=True)


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def answer(port: int) -> bytes:
    """Return the answer of the service, as soon as it listens."""
    while not listens(port):
        time.sleep(0.1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
        read: bytes = reply.read()
        return read


CASES = [
    *((["bash"], options, "bash") for options in ("", "set -euo pipefail")),
    *((shell, "set -eu", "ss") for shell in SHELLS[1:]),
    pytest.param(["bash"], "set -e", "bash", marks=pytest.mark.long),
    *(pytest.param(shell, "", "ss", marks=pytest.mark.long) for shell in SHELLS[1:]),
    *(pytest.param(["bash"], "", tool, marks=pytest.mark.long) for tool in ("lsof", "netstat")),
]


@pytest.mark.parametrize(("shell", "options", "tool"), CASES)
def test_the_script_starts_the_service_and_refuses_a_port_in_use(
    shell: list[str], options: str, tool: str, port: int, tmp_path: Path
) -> None:
    root = unpacked(tmp_path)
    started = start(tmp_path, root, port, options, shell=shell, tool=tool)
    assert started.returncode == 0, started.stderr
    try:
        assert b"start.sh" in answer(port)
        (log,) = (tmp_path / "logs").iterdir()
        assert re.fullmatch(r"start_\d{8}_\d{6}\.log", log.name)
        assert "Serving HTTP" in log.read_text() and (tmp_path / "outputs").is_dir()
        assert (root / "etc/of-the-prefix").read_text() == f"{root}\n"
        again = start(tmp_path, root, port, options, shell=shell, tool=tool)
        assert (again.returncode, again.stdout, again.stderr) == (4, "", f"port {port} is in use\n")
    finally:
        os.kill(int(started.stdout), signal.SIGTERM)


def test_the_command_of_the_bundle_starts_without_an_activation_before(port: int, tmp_path: Path) -> None:
    line = f"python -u -m http.server {port} --bind 127.0.0.1"
    root = unpacked(tmp_path, commands={"serve": line}, services={"serve": Service(port, stop=5)})
    command = [root / "bin/serve-run", "--wait-ready", "600", "--log", "logs"]
    done = subprocess.run(command, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        assert listens(port)
        assert (root / "etc/of-the-prefix").read_text() == f"{root}\n"
    finally:
        os.kill(int(done.stdout), signal.SIGTERM)


REFUSED = {
    "memory": (
        Host("550.54.15", 12040, [T4]),
        {"gpu_memory": "24 GB"},
        "16.1 GB of memory in one GPU found; this bundle needs 24.0 GB: use a larger GPU",
    ),
    "driver": (
        Host("470.82.01", 11040, [A100]),
        {"driver": ">=520"},
        "driver 470.82.01 found; this bundle needs >= 520: update the driver",
    ),
}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stubs(tmp_path_factory.mktemp("stubs") / "stubs")


@pytest.mark.parametrize("kind", ["memory", pytest.param("driver", marks=pytest.mark.long)])
def test_a_gpu_that_does_not_do_is_refused_before_the_start(
    kind: str, stubs: Path, port: int, tmp_path: Path
) -> None:
    host, requires, reason = REFUSED[kind]
    environ = {**host.environment(stubs, tmp_path), **ENVIRON}
    root = unpacked(tmp_path, requires=requires, commands={"serve": f"python -m http.server {port}"})
    for options, status in (("", 3), ("set -e", 1)):
        script = start(tmp_path, root, port, options, environ)
        assert (script.returncode, script.stdout) == (status, "")
        assert reason in script.stderr
    done = subprocess.run([root / "bin/serve-run"], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (78, "")
    assert reason in done.stderr
