"""What a person sees in a terminal of 80 columns when a service does not start: one error, with what to do."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from envpack.runtime.format.services import Mount, Service
from support.fake_hosts import A100, T4, Host, build_stubs
from support.forked import envpack
from support.small_prefix import SmallPrefix

WIDTH = 80


def made(folder: Path, command: str, service: Service | None = None, **settings: object) -> Path:
    """Return a deployment below ``folder`` with one command, serve."""
    prefix = SmallPrefix(folder / "prefix")
    prefix.link("bin/python", sys.executable)
    prefix.pack(
        folder / "b.tar.gz",
        outside="keep",
        name="demo",
        version="1.0",
        commands={"serve": command},
        services={"serve": service or Service()},
        **settings,
    )
    done = envpack("deploy", "--no-check", "b.tar.gz", "d", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "d"


def seen(root: Path, *options: str, **environ: str) -> tuple[int, str]:
    """Run the command; return its status, and what its terminal shows."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", **environ}
    command = [str(root / "bin/serve-run"), *options]
    with os.fdopen(main, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            command, cwd=root.parent, env=variables, stdin=end, stdout=subprocess.PIPE, stderr=end
        )
        os.close(end)
        text = b""
        try:
            while block := terminal.read(4096):
                text += block
        except OSError:  # EIO: no process has the other end any more
            pass
        out, _ = process.communicate()
    assert out == b""
    shown = text.decode().replace("\r\n", "\n")
    assert all(len(line) <= WIDTH for line in shown.splitlines() if " " in line.strip()), shown
    return process.returncode, shown


def said(shown: str) -> str:
    return " ".join(shown.split())


HOSTS = {
    "memory": (
        Host("550.54.15", 12040, [T4]),
        {"gpu_memory": "24 GB"},
        """\
envpack: error: this host can't run demo 1.0: a requirement is not met
  16.1 GB of memory in one GPU found; this bundle needs 24.0 GB: use a larger
    GPU
envpack: hint: ENVPACK_SKIP_CHECK=1 skips this check.
""",
    ),
    "driver": (
        Host("470.82.01", 11040, [A100]),
        {"driver": ">=520"},
        """\
envpack: error: this host can't run demo 1.0: a requirement is not met
  driver 470.82.01 found; this bundle needs >= 520: update the driver on the
    host
envpack: hint: ENVPACK_SKIP_CHECK=1 skips this check.
""",
    ),
}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stubs(tmp_path_factory.mktemp("stubs") / "stubs")


@pytest.mark.parametrize("kind", ["driver", pytest.param("memory", marks=pytest.mark.long)])
def test_a_gpu_that_does_not_do(kind: str, stubs: Path, tmp_path: Path) -> None:
    host, requires, text = HOSTS[kind]
    root = made(tmp_path, "exit 5", requires=requires)
    environ = host.environment(stubs, tmp_path)
    environ = {key: value for key, value in environ.items() if key not in ("PATH", "HOME")}
    where = " on the\n    host"  # only said in a container
    code, shown = seen(root, **environ)
    assert (code, shown.replace(where, "")) == (78, text.replace(where, ""))
    assert seen(root, ENVPACK_SKIP_CHECK="1", **environ) == (5, "")
    words = [sys.executable, "-m", "envpack", "run", str(root), "serve", "--json"]
    done = subprocess.run(words, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    (reason,) = json.loads(done.stdout)["error"]["details"]
    assert reason.removesuffix(" on the host") in said(text)


def test_the_variable_that_skips_the_check_is_only_there_if_it_was(tmp_path: Path) -> None:
    root = made(tmp_path, "exit ${ENVPACK_SKIP_CHECK-4}")
    assert seen(root)[0] == 4
    assert seen(root, ENVPACK_SKIP_CHECK="1")[0] == 1


def test_weights_that_are_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "models")
    mount = Mount(path, 60 * 10**9, "weights")
    root = made(tmp_path, "exit 5", Service(mounts=(path,)), mounts={path: mount})
    status, shown = seen(root)
    assert status == 78
    assert said(shown) == (
        f"envpack: error: a mount is not as needed: {path} (weights) does not exist; at least 60.0 GB needed "
        "envpack: hint: Mount or copy it there, then start the command again."
    )


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, shown = seen(made(tmp_path, "exit 5", Service(port)))
    assert status == 78
    assert re.fullmatch(
        rf"envpack: error: port {port} is taken by \S+ \(pid {os.getpid()}, user \S+\) "
        rf"envpack: hint: Stop it \(kill {os.getpid()}\), or use another port with --port, if the command reads "
        r"the variable PORT\.",
        said(shown),
    )


ENDS = {
    "exit 3": ("status 3", ""),
    "exit 0": ("status 0", " envpack: hint: It must stay in the foreground to be waited for: "),
    "no-such-program": ("status 127", " envpack: hint: A program of its command was not found: "),
    "kill -9 $$; true": ("signal 9", " envpack: hint: It was killed, often because the memory is used up; "),
    "(exit 137)": ("status 137", " envpack: hint: It was killed, often because the memory is used up; "),
}


@pytest.mark.parametrize(
    "line", [pytest.param(it, marks=pytest.mark.long if it == "(exit 137)" else ()) for it in ENDS]
)
def test_a_program_that_ends_at_its_start(line: str, tmp_path: Path) -> None:
    ended, hint = ENDS[line]
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        root = made(tmp_path, f"echo the reason; {line}", Service(trial.getsockname()[1]))
    status, shown = seen(root, "--wait-ready", "600")
    (log,) = (tmp_path / "logs").iterdir()
    assert status == 1
    assert re.match(
        rf"envpack: log: logs/{log.name} envpack: error: serve ended with {ended} after \d+\.\d s; its log is "
        rf"logs/{log.name} the reason",
        said(shown),
    )
    assert hint in said(shown) and ("hint" in shown) == bool(hint)
