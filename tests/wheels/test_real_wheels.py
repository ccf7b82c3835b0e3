"""What is derived from wheels as they are published, against what was measured on them, what readelf says, and
what they say of themselves. Run by ``make test-wheels``: 3 GB of downloads, kept in build/wheels; 5 GB of disk.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from envpack.prefix import read_prefix
from envpack.prefix.needs import contradictions, derive_needs
from envpack.prefix.needs.derive import summary
from envpack.runtime.format.needs import DetectedNeeds, GpuCode
from envpack.runtime.host.tables import minimum_driver
from envpack.runtime.report import human_size
from support.reporters import RecordingReporter

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / "build" / "wheels"
SITE = "lib/python3.11/site-packages"
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils, to compare with"),
]


@dataclass(frozen=True)
class Case:
    """Wheels installed together, and what must be found. ``driver``: from which on it runs; ``main``: the library
    that decides, ``sass`` its targets; ``glibc``: the floor."""

    name: str
    wheels: tuple[str, ...]
    cuda: str
    driver: str
    main: str
    sass: str
    glibc: str
    ptx: str = ""
    machine: str = "x86_64"


CASES = [
    Case(
        "torch 2.7.1",
        ("torch==2.7.1",),
        cuda="12.6",
        driver="525.60.13",
        main="torch/lib/libtorch_cuda.so",
        sass="50 60 70 75 80 86 90",
        glibc="2.28",
    ),
    Case(
        "torch 2.9.1",
        ("torch==2.9.1",),
        cuda="12.8",
        driver="525.60.13",
        main="torch/lib/libtorch_cuda.so",
        sass="70 75 80 86 90 100 120",
        glibc="2.28",
    ),
    Case(
        "torch 2.15.0",
        ("torch==2.15.0",),
        cuda="13.2",
        driver="580.65.06",
        main="torch/lib/libtorch_cuda.so",
        sass="75 80 86 90 100 120",
        glibc="2.28",
    ),
    Case("torch for CPUs, aarch64", ("torch==2.7.1",), "", "", "", "", glibc="2.28", machine="aarch64"),
    Case("torch for CPUs", ("torch==2.13.0+cpu",), "", "", "", "", glibc="2.28"),
    Case(
        "jax for CUDA 12",
        ("jax-cuda12-plugin==0.10.2", "jax-cuda12-pjrt==0.10.2"),
        cuda="12",
        driver="525.60.13",
        main="jax_plugins/xla_cuda12/xla_cuda_plugin.so",
        sass="50 60 70 80 90 100 101 120",
        ptx="compute_120 8.8",
        glibc="2.27",
    ),
    Case("bitsandbytes alone", ("bitsandbytes==0.50.2",), "", "", "", "", glibc="2.4"),
    Case(
        "bitsandbytes with torch",
        ("bitsandbytes==0.50.2", "torch==2.15.0"),
        cuda="13.2",
        driver="580.65.06",
        main="torch/lib/libtorch_cuda.so",
        sass="75 80 86 90 100 120",
        glibc="2.28",
    ),
    Case(
        "onnxruntime-gpu",
        ("onnxruntime-gpu==1.31.1",),
        cuda="13.0",
        driver="580.65.06",
        main="onnxruntime/capi/libonnxruntime_providers_cuda.so",
        sass="75 80 86 89 90a 120a",
        glibc="2.28",
    ),
]


def download(requirement: str, machine: str) -> Path:
    """The wheel, from the cache or the package index that pip is set up for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    name, _, version = requirement.replace("-", "_").partition("==")
    pattern = f"{name}-{version}-*_{machine}.whl"
    if not list(CACHE.glob(pattern)):
        platforms = [option for tag in MANYLINUX for option in ("--platform", f"{tag}_{machine}")]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
        command += ["--python-version", "3.11", "--dest", str(CACHE), requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "+cpu" in requirement:
            pytest.skip(f"{requirement} is not on this package index")
        assert done.returncode == 0, done.stderr
    (wheel,) = CACHE.glob(pattern)
    return wheel


@dataclass(frozen=True)
class Found:
    case: Case
    prefix: Path
    needs: DetectedNeeds
    warnings: Sequence[str]

    @property
    def main(self) -> GpuCode:
        (code,) = [code for code in self.needs.gpu_code if code.main]
        return code


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def found(request: pytest.FixtureRequest) -> Iterator[Found]:
    case: Case = request.param
    wheels = [download(requirement, case.machine) for requirement in case.wheels]
    prefix = CACHE / "unpacked"
    shutil.rmtree(prefix, ignore_errors=True)
    try:
        subdir = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[case.machine]
        record = {"name": "python", "version": "3.11.7", "build": "0", "subdir": subdir, "files": []}
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "conda-meta/python-3.11.7-0.json").write_text(json.dumps(record))
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(prefix / SITE)
        heard = RecordingReporter()
        contents = read_prefix(prefix)
        started = time.monotonic()
        needs = derive_needs(contents, heard)
        took = time.monotonic() - started
        targets = " ".join(" ".join((*code.sass, *code.ptx)) for code in needs.gpu_code if code.main)
        print(
            f"\n{case.name}: {human_size(needs.disk)} in {took:.2f} s, {summary(needs)}, "
            f"{targets or 'no main GPU code'}"
        )
        yield Found(case, prefix, needs, heard.warnings)
    finally:
        shutil.rmtree(prefix, ignore_errors=True)


def test_cuda_and_its_least_driver_are_those_measured(found: Found) -> None:
    cuda, case = found.needs.cuda, found.case
    if not case.cuda:
        assert cuda is None
        assert [evidence.value for evidence in found.needs.cpu_builds] == (
            ["torch"] if "torch" in case.name else []
        )
        return
    assert cuda is not None
    assert cuda.value == case.cuda
    row = minimum_driver(cuda.value)
    assert row is not None
    assert row["driver"] == case.driver


def test_nothing_contradicts_itself(found: Found) -> None:
    assert found.warnings == []
    requires = {"cuda": found.case.cuda, "glibc": found.case.glibc}
    assert contradictions({name: value for name, value in requires.items() if value}, found.needs) == []


def test_targets_are_those_measured(found: Found) -> None:
    if not found.case.main:
        assert [code.library for code in found.needs.gpu_code if code.main] == []
        return
    code = found.main
    assert code.library == f"{SITE}/{found.case.main}"
    assert code.sass == tuple(f"sm_{target}" for target in found.case.sass.split())
    assert " ".join(filter(None, (*code.ptx, code.ptx_isa))) == found.case.ptx


def test_torch_s_targets_are_those_that_it_states(found: Found) -> None:
    """``torch.cuda.get_arch_list()`` is a string in its library."""
    library = found.prefix / SITE / "torch/lib/libtorch_python.so"
    if not found.case.cuda or not library.exists():
        pytest.skip("the package index has no torch for CUDA")
    said = re.findall(rb"sm_\d+[af]?(?: sm_\d+[af]?)+", library.read_bytes())
    assert found.main.sass == tuple(max(said, key=len).decode().split())


def test_glibc_is_what_readelf_says(found: Found) -> None:
    """Over all ELF files, but for libraries of which another is loaded: none of them raises the floor."""
    assert found.needs.glibc is not None
    assert found.needs.glibc.value == found.case.glibc
    newest = (0,)
    for path in sorted((found.prefix / SITE).rglob("*")):
        if not path.is_file() or path.is_symlink() or re.search(r"_(cuda|rocm|xpu)\d+\.so", path.name):
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        said = subprocess.run(["readelf", "-VW", path], capture_output=True, text=True).stdout
        for version in re.findall(r"Name: GLIBC_([\d.]+) ", said):
            newest = max(newest, tuple(map(int, version.split("."))))
    assert found.needs.glibc.value == ".".join(map(str, newest))


def test_every_library_with_gpu_code_that_readelf_sees_is_listed(found: Found) -> None:
    listed = {code.library for code in found.needs.gpu_code}
    seen = set()
    for path in sorted((found.prefix / SITE).rglob("*.so*")):
        said = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True).stdout
        sizes = re.findall(r"(?:\.nv_fatbin|__nv_relfatbin)\s+PROGBITS\s+\S+\s+\S+\s+(\S+)", said)
        if any(int(size, 16) > 16 for size in sizes):
            seen.add(str(path.relative_to(found.prefix)))
    assert listed == seen


def test_bitsandbytes_lists_a_library_for_each_cuda_and_none_of_them_decides(found: Found) -> None:
    libraries = [code for code in found.needs.gpu_code if "libbitsandbytes_cuda" in code.library]
    if "bitsandbytes" not in found.case.name:
        assert libraries == []
        return
    names = [re.sub(r".*_(cuda\d+)\.so", r"\1", code.library) for code in libraries]
    assert names == ["cuda118", "cuda121", "cuda124", "cuda126", "cuda128", "cuda130", "cuda132"]
    isas = {name: code.ptx_isa for name, code in zip(names, libraries, strict=True)}
    assert isas == {
        "cuda118": "7.8",
        "cuda121": "8.1",
        "cuda124": "8.4",
        "cuda126": "8.5",
        "cuda128": "8.7",
        "cuda130": "9.0",
        "cuda132": "9.2",
    }
    assert not any(
        "bitsandbytes" in evidence.source and evidence.value != "13" for evidence in found.needs.cuda_all
    )


def test_what_compiles_at_run_time_is_known(found: Found) -> None:
    jit = [evidence.value for evidence in found.needs.jit]
    assert jit == (["jax-cuda12-pjrt", "jax-cuda12-plugin"] if "jax" in found.case.name else [])
