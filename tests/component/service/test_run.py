"""`envpack run`, the runtime's `run` and `bin/NAME-run`: real deployments, processes, ports and signals."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from envpack.runtime.format.services import Mount, Service
from support.forked import envpack
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

SERVER = """\
import http.server, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", *sys.argv[2:], flush=True)
server.serve_forever()
"""
SHOW = """\
import json, os, sys
with open("/proc/self/environ") as file:
    environ = dict(pair.split("=", 1) for pair in file.read().split(chr(0)) if pair)
print(json.dumps([os.getpid(), os.getcwd(), sys.argv[1:], environ]))
sys.exit(5)
"""
STAYS = """\
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep(600)
"""
DIES = "import sys; print(*range(30), sep=chr(10)); sys.exit(3)"


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class Deployed:
    """A deployment with commands, and a folder to run them in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.models = folder, free_port(), folder / "models"
        self.models.mkdir()
        (self.models / "weights").write_bytes(bytes(2000))
        prefix = SmallPrefix(folder / "prefix")
        prefix.link("bin/python", sys.executable)
        prefix.write("lib/server.py", SERVER)
        prefix.write("lib/show.py", SHOW)
        prefix.write("lib/dies.py", DIES)
        prefix.write("lib/stays.py", STAYS)
        prefix.write("etc/conda/activate.d/a.sh", "export OF_A_SCRIPT=yes\n")
        missing = str(folder / "missing")
        self.root = prefix.moved(
            folder / "d",
            outside="keep",
            name="demo",
            version="1.0",
            commands={
                "serve": f"python $CONDA_PREFIX/lib/server.py {self.port}",
                "at": "python $CONDA_PREFIX/lib/server.py $PORT",
                "show": "python $CONDA_PREFIX/lib/show.py",
                "dies": "python $CONDA_PREFIX/lib/dies.py",
                "idle": "sleep 600",
                "group": "python $CONDA_PREFIX/lib/stays.py & until [ -e pid ]; do sleep 0.1; done; exit 3",
                "missing": "true",
                "large": "true",
                "logged": "echo hello",
            },
            services={
                "serve": Service(self.port, "/healthz", (str(self.models),), stop=5),
                "at": Service(free_port(), "/healthz", stop=5),
                "show": Service(env={"OF_THE_COMMAND": "a b"}),
                "dies": Service(free_port()),
                "idle": Service(free_port(), stop=5),
                "group": Service(port=free_port(), stop=1),
                "missing": Service(mounts=(missing,)),
                "large": Service(mounts=(str(self.models),)),
                "logged": Service(log="a/logs"),
            },
            mounts={
                str(self.models): Mount(str(self.models), 1000, "weights"),
                missing: Mount(missing, 60 * 10**9, "weights"),
            },
        )

    def starts(self, name: str) -> dict[str, float]:
        found: dict[str, float] = json.loads((self.root / f".envpack/runs/{name}.json").read_text())
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(tmp_path_factory.mktemp("run"))


Way = Callable[[Deployed, str], list[str]]
WAYS: dict[str, Way] = {
    "envpack": lambda demo, name: [sys.executable, "-m", "envpack", "run", str(demo.root), name],
    "runtime": lambda demo, name: [
        *(sys.executable, "-I", "-S", str(demo.root / ".envpack/runtime.pyz"), "run", str(demo.root), name)
    ],
    "script": lambda demo, name: [str(demo.root / f"bin/{name}-run")],
}


LONG_AS_RUNTIME = [pytest.param("runtime", marks=pytest.mark.long), "envpack", "script"]
"""For what the script does not do otherwise than the runtime that it starts."""


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "VIRTUAL_ENV": ""}


def run(
    command: Sequence[str], folder: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRON if environ is None else environ, capture_output=True, text=True
    )


def test_the_process_becomes_the_command(demo: Deployed, way: Way, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*way(demo, "show"), "--", "a b", "", "--json"], cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE
    )
    out, _ = process.communicate()
    pid, folder, arguments, environ = json.loads(out)
    assert process.returncode == 5
    assert (pid, folder, arguments) == (process.pid, str(tmp_path), ["a b", "", "--json"])
    assert environ["CONDA_PREFIX"] == str(demo.root)
    assert environ["PATH"].split(":")[0] == str(demo.root / "bin")
    assert (environ["OF_A_SCRIPT"], environ["OF_THE_COMMAND"]) == ("yes", "a b")
    assert environ["HOME"] == "/nowhere"
    assert "LC_CTYPE" not in environ


def test_the_script_of_a_command_finds_its_deployment(demo: Deployed, tmp_path: Path) -> None:
    folder = demo.root / "bin"
    (tmp_path / "link").symlink_to(folder / "show-run")
    by_path = {**ENVIRON, "PATH": f"{folder}:{ENVIRON['PATH']}"}
    ways = (["./show-run"], folder), (["sh", "show-run"], folder), (["show-run"], tmp_path), (["./link"], tmp_path)
    for command, directory in ways:
        done = run(
            ["/bin/sh", "-c", '"$@"', "sh", *command], directory, by_path if command[0] == "show-run" else None
        )
        assert done.returncode == 5, done.stderr
        assert json.loads(done.stdout)[3]["CONDA_PREFIX"] == str(demo.root)


def test_any_program_can_be_run(demo: Deployed, tmp_path: Path) -> None:
    for command in (WAYS["envpack"](demo, "--"), WAYS["runtime"](demo, "--")):
        done = run([*command, "sh", "-c", 'echo "$CONDA_PREFIX|$1|$2"; kill -9 $$', "x", "", "--json"], tmp_path)
        assert (done.stdout, done.returncode) == (f"{demo.root}||--json\n", -signal.SIGKILL)
        done = run([*command, "env"], tmp_path, {**ENVIRON, "discovery.type": "single-node"})
        assert "discovery.type=single-node" in done.stdout.splitlines()  # which dash does not pass on
        done = run([*command, "no-such-program"], tmp_path)
        assert (done.returncode, done.stdout) == (78, "")
        assert "no-such-program can't be run: No such file or directory" in done.stderr


def test_a_pipe_without_a_reader_ends_a_program_as_ever(demo: Deployed, tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and programs inherit that."""
    command = [*WAYS["runtime"](demo, "--"), "sh", "-c", "trap"]
    shown = ["grep", "SigIgn", "/proc/self/status"]
    done = run([*command[:-3], *shown], tmp_path)
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.replace("envpack: ", "").split())


@pytest.mark.parametrize("way", LONG_AS_RUNTIME, indirect=True)
def test_what_is_not_there_is_refused(demo: Deployed, way: Way, tmp_path: Path) -> None:
    done = run(way(demo, "missing"), tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    path = demo.folder / "missing"
    assert f"a mount is not as needed: {path} (weights) does not exist; at least 60.0 GB needed" in said(done)


def test_what_is_no_command_or_no_deployment_is_refused(demo: Deployed, tmp_path: Path) -> None:
    done = run([*WAYS["envpack"](demo, "nothing")], tmp_path)
    assert done.returncode == 78
    assert "demo 1.0 has no command 'nothing' hint: Its commands are: at, dies, group, idle, large" in said(done)
    done = run([sys.executable, "-m", "envpack", "run", str(tmp_path), "x"], tmp_path)
    assert done.returncode == 78
    assert f"{tmp_path} is not an environment that envpack unpacked" in said(done)


def test_a_mount_that_is_too_small_is_refused(demo: Deployed, tmp_path: Path) -> None:
    weights = demo.models / "weights"
    os.truncate(weights, 10)
    (demo.models / "again").symlink_to("weights")
    try:
        done = run(WAYS["script"](demo, "large"), tmp_path)
    finally:
        os.truncate(weights, 2000)
        (demo.models / "again").unlink()
    assert done.returncode == 78
    assert f"{demo.models} (weights): 10 bytes found; at least 1.0 kB needed" in said(done)
    assert run(WAYS["script"](demo, "large"), tmp_path).returncode == 0


@pytest.mark.parametrize("address", [pytest.param("127.0.0.1", marks=pytest.mark.long), "0.0.0.0", "::"])
@pytest.mark.parametrize("way", LONG_AS_RUNTIME, indirect=True)
def test_a_port_that_is_taken_is_refused_with_the_process_that_has_it(
    demo: Deployed, way: Way, tmp_path: Path, address: str
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
        try:
            other.bind((address, demo.port))
        except OSError as problem:
            pytest.skip(f"no IPv6 here: {problem}")
        other.listen()
        done = run(way(demo, "serve"), tmp_path)
    program = Path("/proc/self/comm").read_text().strip()
    assert (done.returncode, done.stdout) == (78, "")
    assert f"port {demo.port} is taken by {program} (pid {os.getpid()}, user " in said(done)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("way", LONG_AS_RUNTIME, indirect=True)
def test_a_command_has_its_port_in_a_variable(demo: Deployed, way: Way, own: bool, tmp_path: Path) -> None:
    options = [] if own else ["--port", str(free_port())]
    done = run([*way(demo, "at"), "--wait-ready", "60", *options], tmp_path)
    assert done.returncode == 0, done.stderr
    os.kill(int(done.stdout), signal.SIGTERM)


@pytest.mark.parametrize("way", LONG_AS_RUNTIME, indirect=True)
def test_a_port_that_is_given_is_looked_at(demo: Deployed, way: Way, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        done = run([*way(demo, "at"), "--port", str(taken)], tmp_path)
    assert (done.returncode, done.stdout) == (78, "") and f"port {taken} is taken by " in said(done)
    for port in ("0", "65536", "-1"):
        done = run([*way(demo, "at"), f"--port={port}"], tmp_path)
        assert (done.returncode, done.stdout) == (2, "") and "expected a port from 1 to 65535" in said(done)


def test_the_port_of_the_spec_is_set_unless_the_spec_sets_it_itself() -> None:
    service = Service(8000, env={"WORKERS": "2"})
    assert service.at_port(None).env == {"PORT": "8000", "WORKERS": "2"}
    assert service.at_port(8001) == Service(8001, env={"PORT": "8001", "WORKERS": "2"})
    assert Service(8000, env={"PORT": "1"}).at_port(None).env == {"PORT": "1"}
    assert Service(8000, env={"PORT": "1"}).at_port(8001).env == {"PORT": "8001"}
    assert Service().at_port(None) == Service()


def test_a_link_is_followed_once(demo: Deployed, tmp_path: Path) -> None:
    """A process goes on with its deployment when the link is switched."""
    link = tmp_path / "current"
    link.symlink_to(demo.root)
    for command in (
        [sys.executable, "-m", "envpack", "run", str(link), "show"],
        [sys.executable, "-I", "-S", str(link / ".envpack/runtime.pyz"), "run", str(link), "show"],
        [str(link / "bin/show-run")],
    ):
        environ = json.loads(run(command, tmp_path).stdout)[3]
        assert environ["CONDA_PREFIX"] == str(demo.root)
        assert str(link) not in environ["PATH"]


def test_a_host_that_does_not_do_is_refused(tmp_path: Path) -> None:
    prefix = SmallPrefix(tmp_path / "prefix")
    prefix.link("bin/python", sys.executable)
    prefix.pack(tmp_path / "b.tar.gz", outside="keep", requires={"kernel": "99"}, commands={"go": "echo ran"})
    root = tmp_path / "root"
    assert envpack("deploy", "--no-check", "b.tar.gz", root, cwd=tmp_path, env=ENVIRON).returncode == 0
    done = run([str(root / "bin/go-run")], tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "this bundle needs >= 99: use a host with a newer kernel" in said(done)
    assert run([str(root / "bin/go-run")], tmp_path, {**ENVIRON, "ENVPACK_SKIP_CHECK": "1"}).stdout == "ran\n"


def test_an_activation_script_that_ends_the_shell_is_refused_with_its_output(tmp_path: Path) -> None:
    prefix = SmallPrefix(tmp_path / "prefix")
    prefix.link("bin/python", sys.executable)
    prefix.write("etc/conda/activate.d/a.sh", "echo no licence; exit 3\n")
    root = prefix.moved(tmp_path / "d", outside="keep", commands={"go": "echo ran"})
    done = run([str(root / "bin/go-run")], tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert said(done).startswith(f"no licence error: {root} could not be activated (status 3)")


@pytest.mark.parametrize("way", LONG_AS_RUNTIME, indirect=True)
def test_a_log_has_the_time_of_the_start_in_its_name(demo: Deployed, way: Way, tmp_path: Path) -> None:
    done = run(way(demo, "logged"), tmp_path)
    (log,) = (tmp_path / "a/logs").iterdir()
    assert re.fullmatch(r"logged-\d{8}-\d{6}\.log", log.name)
    assert (done.returncode, done.stdout, log.read_text()) == (0, "", "hello\n")
    assert said(done) == f"log: a/logs/{log.name}"
    assert run([*way(demo, "logged"), "--log", "-"], tmp_path).stdout == "hello\n"
    run([*way(demo, "logged"), "--log", "other"], tmp_path)
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_a_log_that_can_not_be_written_is_refused(demo: Deployed, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    done = run(WAYS["script"](demo, "logged"), tmp_path)
    assert done.returncode == 78
    assert "the log a/logs/logged-" in said(done) and "can't be written: " in said(done)


@pytest.fixture
def serving(demo: Deployed, way: Way, tmp_path: Path) -> Iterator[tuple[int, subprocess.CompletedProcess[str]]]:
    done = run([*way(demo, "serve"), "--wait-ready", "600", "--", "more"], tmp_path)
    assert done.returncode == 0, done.stderr
    pid = int(done.stdout)
    yield pid, done
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    select.select([end], [], [])
    os.close(end)


def test_a_service_is_started_and_waited_for(
    demo: Deployed, tmp_path: Path, serving: tuple[int, subprocess.CompletedProcess[str]]
) -> None:
    pid, done = serving
    (log,) = (tmp_path / "logs").iterdir()
    assert log.read_text() == "listening more\n"
    assert f"log: logs/{log.name}" in done.stderr
    record = demo.starts("serve")
    assert record["pid"] == pid and record["starts"] >= 1 and record["ready_seconds"] > 0
    again = run(WAYS["script"](demo, "serve"), tmp_path)
    assert again.returncode == 78
    assert f"port {demo.port} is taken by python (pid {pid}, user" in again.stderr.replace("python3", "python")
    assert "serve is running already" in again.stderr


def test_a_service_that_ends_is_reported_with_the_end_of_its_log(demo: Deployed, way: Way, tmp_path: Path) -> None:
    done = run([*way(demo, "dies"), "--wait-ready", "600"], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"dies ended with status 3 after \d+\.\d s; its log is logs/dies-", said(done))
    lines = done.stderr.splitlines()
    assert [line.strip() for line in lines][-20:] == [str(number) for number in range(10, 30)]


def test_a_service_that_is_not_ready_in_time_is_stopped(demo: Deployed, tmp_path: Path) -> None:
    done = run([*WAYS["script"](demo, "idle"), "--wait-ready", "0"], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "idle was not ready after 0 s, and was stopped" in said(done)
    pid = int(demo.starts("idle")["pid"])
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_command_started_is_stopped_with_it(demo: Deployed, tmp_path: Path) -> None:
    done = run([*WAYS["script"](demo, "group"), "--wait-ready", "600"], tmp_path)
    assert done.returncode == 1
    pid = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_command_that_can_not_be_waited_for_is_refused(demo: Deployed, tmp_path: Path) -> None:
    done = run([*WAYS["script"](demo, "show"), "--wait-ready", "1"], tmp_path)
    assert done.returncode == 78
    assert "the command 'show' states neither a port nor a ready URL" in said(done)


def test_signals_and_exit_code_are_the_programs(demo: Deployed, way: Way, tmp_path: Path) -> None:
    process = subprocess.Popen(way(demo, "serve"), cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    process.terminate()
    process.communicate()
    assert process.returncode == 7


def test_json_of_a_start_and_of_a_refusal(demo: Deployed, tmp_path: Path) -> None:
    from jsonschema import validate

    from envpack.cli.commands.schema import load

    for options in ([], ["--wait-ready", "0"]):
        done = run([*WAYS["envpack"](demo, "missing"), "--json", *options], tmp_path)
        document = json.loads(done.stdout)
        validate(document, load("run"))
        assert (document["error"]["code"], document["error"]["type"]) == (78, "StartError")


def test_starts_are_counted_where_that_can_be_written(demo: Deployed, tmp_path: Path) -> None:
    before = demo.starts("logged")["starts"] if (demo.root / ".envpack/runs/logged.json").exists() else 0
    run(WAYS["script"](demo, "logged"), tmp_path)
    record = demo.starts("logged")
    assert (record["starts"], record["ready_seconds"]) == (before + 1, None)
    verified = envpack("verify", demo.root, cwd=tmp_path, env=ENVIRON)
    assert verified.returncode == 0 and "runs" not in verified.stdout
    shutil.rmtree(demo.root / ".envpack/runs")
    (demo.root / ".envpack/runs").write_text("")
    try:
        assert run([*WAYS["script"](demo, "logged"), "--log", "-"], tmp_path).stdout == "hello\n"
    finally:
        (demo.root / ".envpack/runs").unlink()


def test_an_interactive_shell_is_activated(demo: Deployed, tmp_path: Path) -> None:
    lines = 'echo "$CONDA_PREFIX"; exit 4\n'
    for shell in ("/bin/sh", shutil.which("bash"), shutil.which("fish")):
        if shell is None:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "envpack", "shell", str(demo.root)],
            cwd=tmp_path,
            env={**ENVIRON, "HOME": str(tmp_path), "SHELL": shell},
            input=lines,
            capture_output=True,
            text=True,
        )
        assert str(demo.root) in done.stdout.split(), done
        assert done.returncode == 4


def test_a_bundle_has_no_script_in_place_of_a_file_of_the_environment(tmp_path: Path) -> None:
    prefix = SmallPrefix(tmp_path / "prefix")
    prefix.write("bin/go-run", "#!/bin/sh\necho mine\n", 0o755)
    reporter = RecordingReporter()
    prefix.pack(tmp_path / "b.tar.gz", reporter, commands={"go": "true"})
    assert any("bin/go-run is a file of the environment" in warning for warning in reporter.warnings)


def unit(demo: Deployed, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return envpack("unit", demo.root, "serve", *options, cwd=folder, env=ENVIRON)


def test_a_unit_starts_the_script_of_the_bundle(demo: Deployed, tmp_path: Path) -> None:
    done = unit(demo, tmp_path, "--run-as", "nobody", "--env-file", "more.env", "--port", "8001")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"ExecStart={demo.root}/bin/serve-run --log - --port 8001" in lines
    assert f"RequiresMountsFor={demo.models}" in lines
    assert f"WorkingDirectory={tmp_path}" in lines
    assert f"EnvironmentFile={tmp_path}/more.env" in lines
    assert "User=nobody" in lines and "TimeoutStopSec=5" in lines
    pyz = [sys.executable, "-I", "-S", str(demo.root / ".envpack/runtime.pyz")]
    runtime = run([*pyz, "unit", str(demo.root), "serve", "--user"], tmp_path)
    assert runtime.stdout == unit(demo, tmp_path, "--user").stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "a b 50% $HOME quote'\"s back\\slash",
        *(pytest.param(it, marks=pytest.mark.long) for it in ("plain", "a b", "50%", "$HOME")),
        *(pytest.param(it, marks=pytest.mark.long) for it in ("quote'\"s", "back\\slash")),
    ],
)
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    odd = tmp_path / name
    odd.mkdir()
    prefix = SmallPrefix(tmp_path / "prefix")
    services = {"serve": Service(mounts=(str(odd),), stop=30)}
    prefix.pack(tmp_path / "b.tar.gz", commands={"serve": "true"}, services=services)
    root = str(tmp_path / "a b,c")
    assert envpack("deploy", tmp_path / "b.tar.gz", root, cwd=tmp_path, env=ENVIRON).returncode == 0
    made = envpack("unit", root, "serve", "--run-as", "root", "--env-file", "x", cwd=odd, env=ENVIRON)
    assert made.returncode == 0, made.stderr
    file = tmp_path / "demo.service"
    file.write_text(made.stdout)
    done = run(["systemd-analyze", "verify", "--man=no", str(file)], tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
