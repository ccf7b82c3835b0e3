"""Each situation of tests/support/host_cases.py through the unmodified nvidia-ml-py, as the package installed
here reads it and as the runtime in a bundle does, with the very verdicts and remedies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.runtime.commands.check import check, facts_from_file
from envpack.runtime.host.detect.cuda_probe import Probe, probe
from envpack.runtime.host.facts import Gpu
from envpack.runtime.host.tables import state_row
from support.compilers import compile_c
from support.fake_hosts import CU126, H100, Host, build_stubs, bundle_of
from support.forked import ForkedRuntime
from support.host_cases import HOST_CASES, WSL, HostCase, expected_answers

EXPECTED = expected_answers()


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runtime") / "runtime.pyz"
    path.write_bytes(runtime_zip())
    return path


MODULES = (
    "pynvml",  # which takes longest
    "ctypes.util",
    *(
        f"envpack.runtime.host.{name}"
        for name in ("detect.cuda_probe", "detect.gather", "detect.nvml", "facts", "tables")
    ),
)


class Servers:
    """By the way the runtime is run and the library that can be loaded: a process that answers for hosts."""

    def __init__(self, stubs: Path, pyz: Path) -> None:
        self._stubs, self._pyz = stubs, pyz
        self._running: dict[tuple[str, str], ForkedRuntime] = {}

    def ask(self, way: str, host: Host, folder: Path, *arguments: str) -> str:
        environ = host.environment(self._stubs, folder)
        server = self._server(way, environ.get("LD_LIBRARY_PATH", ""))
        done = server.run(*arguments, env=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _server(self, way: str, library: str) -> ForkedRuntime:
        if (way, library) not in self._running:
            source = self._pyz if way == "travelling" else None
            environment = {"LD_LIBRARY_PATH": library} if library else {}
            self._running[way, library] = ForkedRuntime(sys.executable, source, MODULES, environment)
        return self._running[way, library]

    def end(self) -> None:
        for server in self._running.values():
            server.end()


@pytest.fixture(scope="module")
def servers(stubs: Path, pyz: Path) -> Iterator[Servers]:
    servers = Servers(stubs, pyz)
    yield servers
    servers.end()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[HostCase], Path]:
    """The bundle of a case."""
    folder = tmp_path_factory.mktemp("bundles")

    def bundle(case: HostCase) -> Path:
        path = folder / f"{HOST_CASES.index(case)}.tar.gz"
        if not path.exists():
            bundle_of(path, case.bundle)
        return path

    return bundle


@pytest.mark.parametrize("way", ["installed", "travelling"])
@pytest.mark.parametrize("case", HOST_CASES, ids=lambda case: case.name)
def test_host_case(
    case: HostCase, way: str, servers: Servers, bundles: Callable[[HostCase], Path], tmp_path: Path
) -> None:
    root = case.host.root(tmp_path / "root")
    options = ["--root", str(root), "--json", *(["--probe"] if case.probe else [])]
    answer = servers.ask(way, case.host, tmp_path, "facts", str(tmp_path), *options)
    (tmp_path / "facts.json").write_text(answer)
    facts = facts_from_file(tmp_path / "facts.json")
    expected = EXPECTED[case.name]
    assert facts.nvidia.state == expected.state
    verdicts = check(bundles(case), facts=facts, gpu=case.gpu).verdicts
    said = (f"{item.verdict} {item.requirement}: {item.message}" for item in verdicts if item.verdict != "ok")
    assert sorted(said) == sorted(expected.lines)
    assert all(item.rule.text for item in verdicts if item.requirement in ("gpu", "cuda", "gpu_code"))


def test_there_are_as_many_as_promised() -> None:
    assert len(HOST_CASES) >= 25
    assert [case.name for case in HOST_CASES] == list(EXPECTED)


def test_a_bundle_s_own_runtime_refuses_a_host(stubs: Path, pyz: Path, tmp_path: Path) -> None:
    """The whole way: NVML, facts, verdicts, exit code."""
    case = next(case for case in HOST_CASES if case.name == "driver too old")
    bundle_of(tmp_path / "b.tar.gz", case.bundle)
    asked = [sys.executable, "-I", "-S", str(pyz), "check", str(tmp_path / "b.tar.gz"), "--json"]
    done = subprocess.run(asked, env=case.host.environment(stubs, tmp_path), capture_output=True, text=True)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["schema"]) == (9, "envpack.check/1")
    details = answer["error"]["details"]
    assert any(
        line.startswith("driver 470.57.02 found; this bundle's CUDA 12.6 needs >= 525.60.13") for line in details
    )
    assert "--allow cuda" in answer["error"]["hint"]


@pytest.mark.parametrize(
    ("libcuda", "cuda", "failed"),
    [("570.124.06", 12080, []), ("570.86.15", 12080, ["cuda_compat"]), ("575.57.08", 12090, [])],
)
def test_the_file_of_libcuda_is_compared_with_the_driver(
    libcuda: str, cuda: int, failed: list[str], stubs: Path, tmp_path: Path
) -> None:
    """The link libcuda.so.1 leads to a file with the version; a newer branch is that of cuda-compat."""
    folder = tmp_path / "driver"
    shutil.copytree(stubs / "utility", folder)
    shutil.copy(stubs / "new/libcuda.so.1", folder / f"libcuda.so.{libcuda}")
    (folder / "libcuda.so.1").symlink_to(f"libcuda.so.{libcuda}")
    host = Host("570.124.06", cuda, [H100])
    environ = {**host.environment(stubs, tmp_path), "LD_LIBRARY_PATH": str(folder)}
    bundle_of(tmp_path / "b.tar.gz", CU126)
    command = [sys.executable, "-m", "envpack", "check", str(tmp_path / "b.tar.gz"), "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    verdicts = json.loads(done.stdout)["result"]["verdicts"]
    assert [item["requirement"] for item in verdicts if item["verdict"] == "failed"] == failed


def test_the_libcuda_of_a_linux_driver_is_no_use_in_wsl(stubs: Path, tmp_path: Path) -> None:
    """The file of Windows' driver is /usr/lib/wsl/lib/libcuda.so.1.1."""
    host = Host("551.61", 12040, [H100], files=WSL)
    root = host.root(tmp_path / "root")
    for file, state in (("libcuda.so.1.1", "ok"), ("libcuda.so.535.183.01", "wsl-linux-driver")):
        folder = tmp_path / file
        shutil.copytree(stubs / "utility", folder)
        shutil.copy(stubs / "new/libcuda.so.1", folder / file)
        (folder / "libcuda.so.1").symlink_to(file)
        environ = {**host.environment(stubs, tmp_path), "LD_LIBRARY_PATH": str(folder)}
        command = [sys.executable, "-m", "envpack.runtime", "facts", str(tmp_path), "--root", str(root), "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["result"]["facts"]["nvidia"]["state"] == state


def test_a_libcuda_with_few_functions_has_gpus_of_an_unknown_kind(tmp_path: Path) -> None:
    source = tmp_path / "few.c"
    source.write_text(
        "int cuInit(unsigned flags) { return 0; }\n"
        "int cuDriverGetVersion(int *out) { return *out = 12040, 0; }\n"
        "int cuDeviceGetCount(int *out) { return *out = 1, 0; }\n"
    )
    compile_c("-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source)
    assert probe({"LD_LIBRARY_PATH": str(tmp_path)}) == Probe("ok", "", "12.4", (Gpu(0),))


def test_a_start_of_cuda_that_does_not_end_is_given_up(stubs: Path, tmp_path: Path) -> None:
    host = Host("560.35.03", 12060, [H100], cuda_init="hang")
    found = probe(host.environment(stubs, tmp_path), patience=0.5)
    assert found == Probe("cuda-no-answer", "no answer within 0.5 seconds")
    assert state_row(found.state)["remedy"]
