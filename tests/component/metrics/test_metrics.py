"""``envpack metrics`` and the runtime's, on real deployments with real processes; the GPUs are a stub's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.cli.commands.schema import load
from envpack.runtime.format.layout import MANIFEST_PATH, OWN_FOLDER, STAMP_PATH
from envpack.runtime.metrics.exposition import CONTENT_TYPE
from envpack.runtime.metrics.server import MetricsServer
from envpack.runtime.version import __version__
from support.bundle_factory import file, make_bundle
from support.compilers import compile_c
from support.fake_hosts import A100, H100, STUB, Host, build_stubs, gpu
from support.forked import envpack
from support.namespaces import namespace
from support.sample_deployments import deployed

PROGRAM = Path(__file__).parents[2] / "support" / "waiting_program.c"
CUDA_STUB = PROGRAM.with_name("cuda_stub.c")
ENVPACK = (sys.executable, "-m", "envpack")

Values = dict[str, dict[tuple[str, ...], float]]
Start = Callable[..., subprocess.Popen[str]]


def parsed(text: str) -> Values:
    """Return the values by family, without ``envpack_``, and labels."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = found.setdefault(sample.name.removeprefix("envpack_"), {})
            assert tuple(sample.labels.values()) not in values
            values[tuple(sample.labels.values())] = sample.value
    return found


def metrics(*arguments: object, environ: Mapping[str, str] | None = None) -> Values:
    if environ is None:
        done = envpack("metrics", *arguments)
    else:  # a process of its own, for libraries are looked for as it was told when it started
        command = [*ENVPACK, "metrics", *map(str, arguments)]
        done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    return parsed(done.stdout)


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the waiting program, and libraries that it can load."""
    folder = tmp_path_factory.mktemp("programs")
    compile_c("-o", folder / "waits", PROGRAM, "-ldl", "-pthread")
    (folder / "empty.c").write_text("int nothing;\n")
    compile_c("-shared", "-fPIC", "-o", folder / "libdemo.so", folder / "empty.c")
    compile_c("-shared", "-fPIC", "-o", folder / "libcuda.so.1", CUDA_STUB)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime of a bundle alone."""
    path = tmp_path_factory.mktemp("runtime") / "runtime.pyz"
    path.write_bytes(runtime_zip())
    return path


@pytest.fixture
def bundles(programs: Path, tmp_path: Path) -> Sequence[Path]:
    """Three versions of an environment that has the waiting program and a library."""
    made = []
    for number in (1, 2, 3):
        path = tmp_path / f"demo-{number}.0.tar.gz"
        items = [
            file("bin/waits", (programs / "waits").read_bytes(), 0o755),
            file("lib/libdemo.so", (programs / "libdemo.so").read_bytes(), 0o755),
            file("lib/version", str(number).encode()),
        ]
        make_bundle(path, {"environment": items}, name="demo", version=f"{number}.0")
        made.append(path)
    return made


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that wait; they end after the test."""
    with ExitStack() as stack:

        def call(*command: object) -> subprocess.Popen[str]:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen([str(word) for word in command], **pipes))  # type: ignore[call-overload]
            stack.callback(process.stdin.close)
            assert process.stdout.readline() == "ready\n"
            return process  # type: ignore[no-any-return]

        yield call


@contextmanager
def serving(
    *command: object, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a server of metrics on a free port; yield its URL and its process, which is ended by SIGTERM."""
    words = [*map(str, command), "--port", "0"]
    with subprocess.Popen(
        words, env={**os.environ, **(environ or {})}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "serving http://127.0.0.1:" in line, line
            yield line.split("serving ")[1].strip(), process
        finally:
            process.terminate()
            process.wait()


def scrape(url: str) -> Values:
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        return parsed(answer.read().decode("utf-8"))


def only(values: Mapping[tuple[str, ...], float]) -> set[str]:
    """Return the last label of those whose value is 1."""
    return {labels[-1] for labels, value in values.items() if value == 1}


def test_a_deployment(bundles: Sequence[Path], tmp_path: Path) -> None:
    x = str(tmp_path / "x")
    for bundle in bundles[:2]:
        done = deployed(bundle, Path(x))
    found = metrics()
    assert found["info"] == {(__version__,): 1}
    assert only(found["deployment_state"]) == {"ok"} and len(found["deployment_state"]) == 5
    (labels,) = found["deployment_info"]
    assert labels[:3] == (x, "demo", "2.0")
    assert labels[3] == Path(x, OWN_FOLDER, "manifest.sha256").read_text().split()[0]
    assert found["deployment_generation"] == {(x,): 2}
    assert found["deployment_kept_generations"] == {(x,): 1}
    assert found["deployment_size_bytes"] == {(x,): done.size}
    assert only(found["deployment_host_check"]) == {"passed"}
    assert found["deployment_host_check_timestamp_seconds"] == found["deployment_deployed_timestamp_seconds"]
    assert set(found["deployment_processes"].values()) == {0}
    assert not [name for name in found if "gpu" in name or "command" in name]


def test_the_last_check_is_that_of_an_activation(bundles: Sequence[Path], tmp_path: Path) -> None:
    x = tmp_path / "x"
    deployed(bundles[0], x)
    (x / STAMP_PATH).write_text("a stamp\n")
    os.utime(x / STAMP_PATH, (2e9, 2e9))
    assert metrics(x)["deployment_host_check_timestamp_seconds"] == {(str(x),): 2e9}


def test_what_is_broken_is_a_state(bundles: Sequence[Path], tmp_path: Path) -> None:
    """It never keeps the others from being shown, and what is not found any more stays registered."""
    for name in ("good", "gone", "broken", "moved"):
        deployed(bundles[0], tmp_path / name)
    (tmp_path / "gone").rename(tmp_path / "away")
    (tmp_path / "moved").rename(tmp_path / "other")
    (tmp_path / "broken" / MANIFEST_PATH).unlink()
    (tmp_path / "broken" / MANIFEST_PATH).mkdir()
    names = ("good", "gone", "broken", "other")
    for arguments in ((), tuple(tmp_path / name for name in names)):
        found = metrics(*arguments)
        states = {labels[0]: labels[1] for labels, value in found["deployment_state"].items() if value}
        assert states[str(tmp_path / "good")] == "ok"
        assert states[str(tmp_path / "gone")] == "missing"
        assert states[str(tmp_path / "broken")] == "unreadable"
        if arguments:
            assert states[str(tmp_path / "other")] == "not settled"
        assert (str(tmp_path / "good"),) in found["deployment_generation"]
        assert (str(tmp_path / "broken"),) not in found["deployment_generation"]
    (tmp_path / "away").rename(tmp_path / "gone")
    assert ((str(tmp_path / "gone"), "ok"), 1) in metrics()["deployment_state"].items()


def test_what_can_not_be_looked_at_is_not_missing(bundles: Sequence[Path], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    deployed(bundles[0], tmp_path / "closed" / "x")
    (tmp_path / "closed").chmod(0o000)
    try:
        found = metrics()
        paths = (tmp_path / "none", tmp_path / "loop" / "x", tmp_path / "state")
        states = only(metrics(*paths)["deployment_state"])
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert only(found["deployment_state"]) == {"ok" if os.geteuid() == 0 else "unreadable"}
    assert states == {"missing", "unreadable"}


def test_nothing_is_deployed_at_all() -> None:
    assert metrics() == {"info": {(__version__,): 1}}


def test_processes_by_the_generation_that_they_run(
    bundles: Sequence[Path], programs: Path, tmp_path: Path, start: Start
) -> None:
    x = tmp_path / "x"
    deployed(bundles[0], x)
    first = start(x / "bin/waits")
    start(programs / "waits")  # of no deployment
    found = metrics(x)
    assert found["deployment_processes"] == {
        (str(x), "current"): 1,
        (str(x), "kept"): 0,
        (str(x), "gone"): 0,
    }
    pages = int(Path(f"/proc/{first.pid}/statm").read_text().split()[1])
    resident = found["deployment_resident_memory_bytes"][(str(x), "current")]
    assert resident == pages * os.sysconf("SC_PAGE_SIZE")
    deployed(bundles[1], x)
    start(programs / "waits", x / "lib/libdemo.so")  # a program of the host that uses a library of the deployment
    counts = metrics(x)["deployment_processes"]
    assert (counts[(str(x), "current")], counts[(str(x), "kept")]) == (1, 1)
    deployed(bundles[2], x, keep=1)
    assert list(metrics(x)["deployment_processes"].values()) == [0, 1, 1]


def test_a_process_in_another_mount_namespace_is_not_counted(
    bundles: Sequence[Path], tmp_path: Path, start: Start
) -> None:
    """The same path may be another file there, as in a container."""
    deployed(bundles[0], tmp_path / "x")
    start(*namespace(), tmp_path / "x/bin/waits")
    assert set(metrics()["deployment_processes"].values()) == {0}


def test_a_deployment_behind_a_link_with_an_odd_name(
    bundles: Sequence[Path], programs: Path, tmp_path: Path, start: Start
) -> None:
    """The kernel states the real path; in the metrics is the one that was deployed to."""
    real = Path(os.fsdecode(os.fsencode(tmp_path) + b'/r\xff"\n\\'))
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    x = tmp_path / "link/x"
    deployed(bundles[0], x)
    start(x / "bin/waits")
    start(programs / "waits", x / "lib/libdemo.so")
    assert metrics()["deployment_processes"][(str(x), "current")] == 2
    x.rename(real / "y")  # nothing can be deployed to such a path
    found = metrics(real / "y")
    shown = f'{tmp_path}/r\\xff"\n\\/y'
    assert only(found["deployment_state"]) == {"not settled"}
    assert found["deployment_processes"][(shown, "current")] == 2


def write_starts(root: Path, name: str, content: object) -> Path:
    folder = root / OWN_FOLDER / "runs"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_starts_of_commands(bundles: Sequence[Path], tmp_path: Path) -> None:
    x = tmp_path / "x"
    deployed(bundles[0], x)
    record = {"starts": 3, "last_start": 1795758317.25, "pid": 1, "ready_seconds": 2.5}
    for name in ("serve", "worker 2"):
        write_starts(x, f"{name}.json", record)
    write_starts(x, "other.txt", record)
    write_starts(x, "broken.json", b"{")
    write_starts(x, "list.json", [1])
    write_starts(x, "deep.json", b"[" * 60_000)
    write_starts(x, "large.json", json.dumps(record).encode() + b" " * (64 << 10))
    write_starts(x, "strange.json", {"starts": "3", "last_start": None, "ready_seconds": -1})
    os.mkfifo(x / OWN_FOLDER / "runs" / "pipe.json")
    (tmp_path / "outside").write_text(json.dumps(record))
    (x / OWN_FOLDER / "runs" / "link.json").symlink_to(tmp_path / "outside")
    (x / OWN_FOLDER / "runs" / "folder.json").mkdir()
    found = metrics(x)
    keys = [(str(x), "serve"), (str(x), "worker 2")]
    assert found["command_starts_total"] == dict.fromkeys(keys, 3)
    assert found["command_last_start_timestamp_seconds"] == dict.fromkeys(keys, 1795758317.25)
    assert found["command_ready_seconds"] == dict.fromkeys(keys, 2.5)


def test_a_link_in_the_place_of_the_records_is_not_followed(bundles: Sequence[Path], tmp_path: Path) -> None:
    for name in ("x", "y"):
        deployed(bundles[0], tmp_path / name)
    write_starts(tmp_path / "y", "serve.json", {"starts": 3})
    (tmp_path / "x" / OWN_FOLDER / "runs").symlink_to(tmp_path / "y" / OWN_FOLDER / "runs")
    assert "command_starts_total" not in metrics(tmp_path / "x")


# --- GPUs ---


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_stubs(tmp_path_factory.mktemp("stubs") / "stubs")
    (folder / "r470").mkdir()
    compile_c("-Wall", "-Werror", "-shared", "-fPIC", "-DR470", "-o", folder / "r470" / "libnvidia-ml.so.1", STUB)
    return folder


def uuid(record: str) -> str:
    return record.split("|")[1]


def gpu_environment(
    stubs: Path, host: Host, usage: Sequence[str] = (), processes: Sequence[str] = (), kind: str = ""
) -> dict[str, str]:
    """Return the variables for a host with GPUs, and what they do at the moment."""
    environ = host.environment(stubs, stubs)
    if kind:
        environ["LD_LIBRARY_PATH"] = str(stubs / kind)
    names = {"LD_LIBRARY_PATH", *(name for name in environ if name.startswith("NVML"))}
    chosen = {name: value for name, value in environ.items() if name in names}
    return {**chosen, "NVML_STUB_USAGE": ";".join(usage), "NVML_STUB_PROCESSES": ";".join(processes)}


@pytest.mark.parametrize("kind", ["new", "r470"])
def test_gpus_and_the_deployments_that_use_them(
    kind: str, stubs: Path, programs: Path, bundles: Sequence[Path], tmp_path: Path, start: Start
) -> None:
    x = tmp_path / "x"
    deployed(bundles[0], x)
    cuda = programs / "libcuda.so.1"
    first, second = start(x / "bin/waits", cuda), start(x / "bin/waits", cuda)
    without, outside = start(x / "bin/waits"), start(programs / "waits", cuda)
    a, h = uuid(A100), uuid(H100)
    processes = [f"{a}|{first.pid}|1000", f"{a}|{outside.pid}|500", f"{h}|{first.pid}|30", f"{h}|{second.pid}|-"]
    processes += [f"{h}|{without.pid}|70", f"{h}|4194303|5", f"{h}|{os.getpid()}|0"]
    environ = gpu_environment(
        stubs, Host("570.86", gpus=(A100, H100)), [f"{a}|25|2000|41", f"{h}|100|-|-"], processes, kind
    )
    found = metrics(x, environ=environ)
    first_gpu, second_gpu = (a, "0", A100.split("|")[0]), (h, "1", H100.split("|")[0])
    assert found["gpu_up"] == {first_gpu: 1, second_gpu: 1}
    assert found["gpu_utilization_ratio"] == {first_gpu: 0.25, second_gpu: 1}
    reserved = 512 if kind == "r470" else 0
    assert found["gpu_memory_used_bytes"][first_gpu] == (2000 + reserved) << 20
    assert found["gpu_memory_total_bytes"] == {first_gpu: 81920 << 20, second_gpu: 81559 << 20}
    assert found["gpu_temperature_celsius"] == {first_gpu: 41}
    assert found["gpu_processes"] == {first_gpu: 2, second_gpu: 5}
    assert found["deployment_gpu_processes"] == {(str(x), a): 1, (str(x), h): 2}
    assert found["deployment_gpu_memory_used_bytes"] == {(str(x), a): 1000 << 20, (str(x), h): 30 << 20}


def test_a_driver_may_state_a_thread_and_no_memory(
    stubs: Path, programs: Path, bundles: Sequence[Path], tmp_path: Path, start: Start
) -> None:
    """As drivers do in containers: the thread that started CUDA, and 0 for the memory that they do not know."""
    x = tmp_path / "x"
    deployed(bundles[0], x)
    main = start(x / "bin/waits", "--thread", programs / "libcuda.so.1")
    (thread,) = {int(path.name) for path in Path(f"/proc/{main.pid}/task").iterdir()} - {main.pid}
    h = uuid(H100)
    environ = gpu_environment(stubs, Host("570.86", gpus=(H100,)), processes=[f"{h}|{thread}|0"])
    found = metrics(x, environ=environ)
    assert found["deployment_gpu_processes"] == {(str(x), h): 1}
    assert "deployment_gpu_memory_used_bytes" not in found


def test_a_driver_that_has_fewer_functions(stubs: Path) -> None:
    """Before R450: no processes; and what the driver has reserved counts as used."""
    a = uuid(A100)
    environ = gpu_environment(stubs, Host("440.33", gpus=(A100,)), [f"{a}|7|100|50"], [f"{a}|1|5"], "old")
    found = metrics(environ=environ)
    assert set(found["gpu_memory_used_bytes"].values()) == {(100 + 512) << 20}
    assert set(found["gpu_utilization_ratio"].values()) == {0.07}
    assert "gpu_processes" not in found


def test_a_gpu_in_parts(stubs: Path) -> None:
    """The parts are reported instead of the whole, so that a sum counts no memory twice."""
    whole = gpu("NVIDIA A100", "8.0", 40000, mig=1, uuid="GPU-whole")
    slices = ("0|NVIDIA A100 MIG 1g.5gb|MIG-a|4864", "0|NVIDIA A100 MIG 2g.10gb|MIG-b|9856")
    environ = gpu_environment(stubs, Host("570.86", gpus=(whole,), slices=slices), ["MIG-a|-|12|-"], ["MIG-b|5|9"])
    found = metrics(environ=environ)
    parts = [("MIG-a", "0", "NVIDIA A100 MIG 1g.5gb"), ("MIG-b", "0", "NVIDIA A100 MIG 2g.10gb")]
    assert found["gpu_memory_total_bytes"] == dict(zip(parts, (4864 << 20, 9856 << 20), strict=True))
    assert found["gpu_processes"] == dict(zip(parts, (0, 1), strict=True))
    assert "gpu_utilization_ratio" not in found


def test_a_gpu_that_is_lost_and_a_driver_that_does_not_work(stubs: Path) -> None:
    lost = gpu("NVIDIA A100", "8.0", 40000, error=15)
    found = metrics(environ=gpu_environment(stubs, Host("570.86", gpus=(lost, H100))))
    assert found["gpu_up"] == {("", "0", ""): 0, (uuid(H100), "1", H100.split("|")[0]): 1}
    for host in (Host("570.86", gpus=(H100,), init=18), Host("570.86")):
        assert "gpu_up" not in metrics(environ=gpu_environment(stubs, host))


# --- output ---


def test_json_is_as_its_schema_says(bundles: Sequence[Path], tmp_path: Path) -> None:
    deployed(bundles[0], tmp_path / "x")
    output = tmp_path / "x.prom"
    for arguments, written in (((), None), (("-o", output), str(output))):
        done = envpack("metrics", "--json", *arguments)
        document = json.loads(done.stdout)
        jsonschema.validate(document, load("metrics"))
        assert document["result"]["output"] == written
        names = [family["name"] for family in document["result"]["families"]]
        assert names[:2] == ["envpack_info", "envpack_deployment_state"]


def test_a_file_for_the_textfile_collector(bundles: Sequence[Path], tmp_path: Path) -> None:
    x, output = tmp_path / "x", tmp_path / "envpack.prom"
    deployed(bundles[0], x)
    for _ in range(2):
        done = envpack("metrics", "-o", output)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert parsed(output.read_text("utf-8"))["deployment_generation"] == {(str(x),): 1}
    assert output.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.glob("*.prom")] == ["envpack.prom"]
    assert not list(tmp_path.glob(".envpack.prom*"))


def test_the_text_is_utf_8_in_every_locale(bundles: Sequence[Path], tmp_path: Path) -> None:
    deployed(bundles[0], tmp_path / "é")
    found = metrics(environ={"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"})
    assert found["deployment_generation"] == {(str(tmp_path / "é"),): 1}


WRONG_OPTIONS = [
    (("--address", "::1"), 2, "--address needs --port"),
    (("--port", "0", "--address", "192.0.2.1"), 2, "192.0.2.1 is not an address of this host"),
    (("-o", "missing/x.prom"), 10, "can't write missing/x.prom: No such file or directory"),
    (("--port", "0", "-o", "x.prom"), 2, "--port can't be used with --output"),
    (("--port", "0", "--json"), 2, "--port can't be used with --json"),
    (("--port", "65536"), 2, "there is no port 65536"),
    (("--port", "-1"), 2, "there is no port -1"),
    (("--port", "0", "--address", "a..b"), 2, "the address a..b is not known"),
    (("-o", "."), 10, "can't write ."),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG_OPTIONS)
def test_wrong_options(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    refused(envpack("metrics", *arguments, cwd=tmp_path), code, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [*WRONG_OPTIONS[:3], *(pytest.param(*case, marks=pytest.mark.long) for case in WRONG_OPTIONS[3:])],
)
def test_wrong_options_of_the_runtime(
    arguments: tuple[str, ...], code: int, message: str, runtime: Path, tmp_path: Path
) -> None:
    command = [sys.executable, runtime, "metrics", *arguments]
    refused(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path), code, message)


def refused(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert (done.returncode, message in done.stderr + done.stdout) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


# --- server ---


@pytest.fixture(params=["envpack", "runtime"])
def command(request: pytest.FixtureRequest, runtime: Path) -> tuple[str, ...]:
    """``envpack metrics``, and that of a bundle's runtime alone."""
    if request.param == "envpack":
        return (*ENVPACK, "metrics")
    return (sys.executable, "-I", "-S", str(runtime), "metrics")


def test_a_server_answers_with_the_state_of_the_moment(
    command: tuple[str, ...], bundles: Sequence[Path], tmp_path: Path, start: Start
) -> None:
    x = tmp_path / "x"
    deployed(bundles[0], x)
    with serving(*command) as (url, process):
        assert scrape(url)["deployment_generation"] == {(str(x),): 1}
        assert scrape(f"{url}?name[]=x")["deployment_processes"][(str(x), "current")] == 0
        start(x / "bin/waits")
        deployed(bundles[1], x)
        found = scrape(url)
        assert found["deployment_generation"] == {(str(x),): 2}
        assert found["deployment_processes"][(str(x), "kept")] == 1
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
            assert int(answer.headers["Content-Length"]) > 1000 and answer.read() == b""
        with pytest.raises(urllib.error.HTTPError, match="404") as raised:
            urllib.request.urlopen(url.replace("/metrics", "/other"))
        assert raised.value.read() == b"The metrics are at /metrics\n"
        raised.value.close()
        with pytest.raises(urllib.error.HTTPError, match="501") as refused:
            urllib.request.urlopen(url, data=b"x")
        refused.value.close()
        once = subprocess.run(command, capture_output=True, check=True)
        assert parsed(once.stdout.decode()).keys() == found.keys()
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_it_ends_every_command(command: tuple[str, ...], number: signal.Signals) -> None:
    with serving(*command) as (url, process):
        scrape(url)
        process.send_signal(number)
        assert process.wait() == 130
        assert process.stderr is not None and "interrupted" in process.stderr.read()


def test_a_signal_is_not_lost_when_the_answer_was_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_and_be_interrupted(server: MetricsServer, request: object, address: object) -> None:
        server.process_request_thread(request, address)
        raise KeyboardInterrupt

    monkeypatch.setattr("socketserver.ThreadingMixIn.process_request", answer_and_be_interrupted)
    server = MetricsServer("127.0.0.1", 0, str, print)
    with server, socket.create_connection(server.server_address[:2]) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with pytest.raises(KeyboardInterrupt):
            server.handle_request()


def test_a_port_that_is_taken(command: tuple[str, ...]) -> None:
    with serving(*command) as (url, _):
        port = url.split(":")[2].split("/")[0]
        done = subprocess.run([*command, "--port", port], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use by another process" in done.stderr
    assert f"sport = :{port}" in done.stderr


def test_slow_and_endless_clients_do_not_keep_others_from_their_answer() -> None:
    with serving(*ENVPACK, "metrics") as (url, _), ExitStack() as stack:
        place = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        slow = [stack.enter_context(socket.create_connection(place)) for _ in range(4)]
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        with socket.create_connection(place) as endless, pytest.raises(OSError):
            for _ in range(10_000):  # the server closes it long before
                endless.sendall(b"x: y\r\n" * 1000)
        assert "info" in scrape(url)
        slow[0].sendall(b"Host: x\r\n\r\n")
        assert slow[0].recv(100).startswith(b"HTTP/1.0 200 OK")


def test_connections_beyond_the_limit_are_closed_until_others_end() -> None:
    with serving(*ENVPACK, "metrics") as (url, _), ExitStack() as stack:
        place = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        clients = [stack.enter_context(socket.create_connection(place)) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET ")
        with socket.create_connection(place) as one_more:
            assert one_more.recv(1) == b""
        clients[0].sendall(b"/metrics HTTP/1.1\r\n\r\n")
        while clients[0].recv(1 << 16):
            pass
        assert "info" in scrape(url)
