"""What is derived from wheels as they are published, against what was measured on them, what readelf says, and
what they say of themselves. Run by ``make test-wheels``: 6 GB of downloads, kept in build/wheels; 8 GB of disk.
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
from functools import cached_property
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.needs.derive import derive_needs, summary
from envpack.prefix.needs.requires import contradictions
from envpack.runtime.format.needs import DetectedNeeds, GpuCode
from envpack.runtime.host.tables import minimum_driver
from envpack.runtime.report import human_size
from support.reporters import RecordingReporter
from support.wheel_verdicts import expected, verdicts

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / "build" / "wheels"
SITE = "lib/python3.11/site-packages"
MANYLINUX = (
    *(f"manylinux_2_{minor}" for minor in range(28, 4, -1)),
    "manylinux2014",
    "manylinux2010",
    "manylinux1",
)

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils, to compare with"),
]


@dataclass(frozen=True)
class Case:
    """Wheels installed together, and what must be found. ``driver``: from which on it runs; ``main``: the library
    that decides, ``sass`` its targets; ``glibc``: the floor; ``complete``: with all that they depend on."""

    name: str
    wheels: tuple[str, ...]
    cuda: str
    driver: str
    main: str
    sass: str
    glibc: str
    ptx: str = ""
    machine: str = "x86_64"
    complete: bool = False

    @property
    def torch(self) -> bool:
        return any(wheel.startswith("torch==") for wheel in self.wheels)


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
        "torch 2.14.1",
        ("torch==2.14.1",),
        cuda="13.0",
        driver="580.65.06",
        main="torch/lib/libtorch_cuda.so",
        sass="75 80 86 90 100 120",
        glibc="2.28",
    ),
    Case(
        "torch 2.14.1 with its dependencies",
        ("torch==2.14.1",),
        cuda="13.0",
        driver="580.65.06",
        main="torch/lib/libtorch_cuda.so",
        sass="75 80 86 90 100 120",
        glibc="2.28",
        complete=True,
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
        ("bitsandbytes==0.50.2", "torch==2.14.1"),
        cuda="13.0",
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
    """Return the wheel, from the cache or the package index that pip is set up for."""
    name, _, version = requirement.replace("-", "_").partition("==")
    pattern = f"{name}-{version}-*_{machine}.whl"
    if not list(CACHE.glob(pattern)):
        said = fetch(CACHE, requirement, machine, "--no-deps")
        if said and "+cpu" in requirement:
            pytest.skip(f"{requirement} is not on this package index")
        assert not said, said
    (wheel,) = CACHE.glob(pattern)
    return wheel


def download_complete(requirement: str, machine: str) -> list[Path]:
    """Return the wheel and those of all that it depends on, in a folder of their own."""
    folder = CACHE / requirement
    if not (folder / "complete").exists():
        said = fetch(folder, requirement, machine, "--find-links", str(CACHE))
        assert not said, said
        (folder / "complete").touch()
    return sorted(folder.glob("*.whl"))


def fetch(folder: Path, requirement: str, machine: str, *options: str) -> str:
    """Download with pip; return what it prints of a failure, "" for success."""
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [option for tag in MANYLINUX for option in ("--platform", f"{tag}_{machine}")]
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", *platforms, *options]
    command += ["--python-version", "3.11", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr or "failed") if done.returncode else ""


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@dataclass(frozen=True)
class Found:
    case: Case
    prefix: Path
    needs: DetectedNeeds
    warnings: Sequence[str]

    @cached_property
    def elf_files(self) -> dict[str, str]:
        """Return what readelf says of each ELF file (sections, versions, libraries), by its path in the prefix."""
        plain = (path for path in (self.prefix / SITE).rglob("*") if path.is_file() and not path.is_symlink())
        paths = [str(path.relative_to(self.prefix)) for path in sorted(plain) if is_elf(path)]
        said: dict[str, str] = {}
        for start in range(0, len(paths), 100):
            # of one file alone, readelf does not print the name
            command = ["readelf", "-SVdW", sys.executable, *paths[start : start + 100]]
            text = subprocess.run(command, capture_output=True, text=True, cwd=self.prefix).stdout
            _, *blocks = re.split(r"^File: (.+)$", text, flags=re.MULTILINE)
            said.update(zip(blocks[::2], blocks[1::2], strict=True))
        return {path: said[path] for path in paths}

    @property
    def main(self) -> GpuCode:
        (code,) = [code for code in self.needs.gpu_code if code.main]
        return code


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def found(request: pytest.FixtureRequest) -> Iterator[Found]:
    case: Case = request.param
    wheels = [download(requirement, case.machine) for requirement in case.wheels]
    if case.complete:
        wheels = [wheel for requirement in case.wheels for wheel in download_complete(requirement, case.machine)]
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
        print(verdicts(case.name, needs, case.machine, torch=case.torch))
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
    for path, said in found.elf_files.items():
        if not re.search(r"_(cuda|rocm|xpu)\d+\.so", path):
            for version in re.findall(r"Name: GLIBC_([\d.]+) ", said):
                newest = max(newest, tuple(map(int, version.split("."))))
    assert found.needs.glibc.value == ".".join(map(str, newest))


def test_every_library_with_gpu_code_that_readelf_sees_is_listed(found: Found) -> None:
    listed = {code.library for code in found.needs.gpu_code}
    seen = set()
    for path, said in found.elf_files.items():
        sizes = re.findall(r"(?:\.nv_fatbin|__nv_relfatbin)\s+PROGBITS\s+\S+\s+\S+\s+(\S+)", said)
        if any(int(size, 16) > 16 for size in sizes):
            seen.add(path)
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
    expected = ["jax-cuda12-pjrt", "jax-cuda12-plugin"] if "jax" in found.case.name else []
    assert sorted(set(jit)) == (["triton"] if found.case.complete else expected)


def test_every_library_that_readelf_sees_is_in_the_environment_or_needed_of_the_host(found: Found) -> None:
    """But for parts of glibc and the driver, and for what is optional: rules.json has these."""
    needed = {name for said in found.elf_files.values() for name in re.findall(r"Shared library: \[(.+?)\]", said)}
    names = {name for said in found.elf_files.values() for name in re.findall(r"soname: \[(.+?)\]", said)}
    names.update(path.name for path in (found.prefix / SITE).rglob("*.so*"))
    listed = {library.value for library in found.needs.libraries if not library.inside}
    assert listed <= needed - names
    elsewhere = r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|mvec|cuda|nvidia-ml))\.so\.\d+"
    optional = r"libnvinfer.*|libnvonnxparser.*" if "onnxruntime" in found.case.name else r"$"
    optional = VARIANTS if "bitsandbytes" in found.case.name else optional
    optional = NETWORKS if found.case.complete else optional
    left = needed - names - listed
    assert {
        name for name in left if not re.fullmatch(elsewhere, name) and not re.fullmatch(optional, name)
    } == set()


VARIANTS = (
    r"lib(gcc_s|stdc\+\+|gomp|iomp5|cublas|cublasLt|cusparse|cudart|amdhip64|hip.*|roc.*|sycl|svml|imf|irng|intlc)"
    r"\.so.*"
)
"""What the libraries of bitsandbytes are linked to, of which one is loaded."""

NETWORKS = r"lib(ucp|ucs|uct|fabric|mlx5|ibverbs|rdmacm|mpi|pmix|oshmem|gdrapi|hwloc).*\.so.*"
"""What the transports and bootstraps of NVSHMEM, and cuFile's, are linked to."""


def test_verdicts_are_the_right_ones(found: Found) -> None:
    """On a slim Debian with one of four GPUs, with the libraries that it must have and each library's GPU code."""
    shown = verdicts(found.case.name, found.needs, found.case.machine, torch=found.case.torch)
    assert shown.splitlines() == expected().get(found.case.name, "").splitlines()
