"""The needs of an environment on disk, from metadata, files and libraries together."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import pytest

from envpack.runtime.format.needs import DetectedNeeds, Evidence, HostLibrary, needs_from_json, needs_to_json
from support.environments import SITE, Environment
from support.gpu_files import ARCH, PTX, SASS, Code, elf, fatbin
from support.reporters import RecordingReporter

MACHINE = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 62)
OTHER = 183 if MACHINE == 62 else 62
pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="needs x86_64 or aarch64")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


def library(**contents: object) -> bytes:
    return elf(machine=MACHINE, **contents)  # type: ignore[arg-type]


CORE = fatbin(*(Code(SASS, arch, size=8000) for arch in (80, 86, 90)), Code(SASS, 90, flags=ARCH, size=64))
TORCH: dict[str, bytes | str] = {
    "torch/version.py": "__version__ = '2.7.1+cu126'\ncuda = '12.6'\nhip = None\n",
    "torch/lib/libtorch_cuda.so": library(
        soname="libtorch_cuda.so",
        needed=["libcudart.so.12"],
        versions={"libc.so.6": ["GLIBC_2.28"]},
        fatbins={".nv_fatbin": CORE},
    ),
    "torch/lib/libtorch_cpu.so": library(versions={"libc.so.6": ["GLIBC_2.17"]}),
}
BNB: dict[str, bytes | str] = {
    f"bitsandbytes/libbitsandbytes_{name}.so": library(
        needed=[needed], versions={"libc.so.6": [glibc]}, fatbins={".nv_fatbin": fatbin(Code(SASS, 75))}
    )
    for name, needed, glibc in (
        ("cuda118", "libcudart.so.11.0", "GLIBC_2.17"),
        ("cuda126", "libcudart.so.12", "GLIBC_2.17"),
        ("cuda130", "libcudart.so.13", "GLIBC_2.17"),
        ("xpu2026", "libsycl.so.9", "GLIBC_2.39"),
    )
}


def test_a_torch_environment_from_wheels(environment: Environment) -> None:
    environment.wheel("torch", "2.7.1", TORCH)
    environment.wheel(
        "nvidia-cuda-runtime-cu12", "12.6.77", {"nvidia/cuda_runtime/lib/libcudart.so.12": library()}
    )
    environment.wheel("triton", "3.3.1")
    environment.wheel("bitsandbytes", "0.50.2", BNB)
    heard = RecordingReporter()
    needs = environment.needs(heard)
    assert needs.cuda == Evidence("12.6", f"{SITE}/torch/version.py: cuda = '12.6'")
    assert [(evidence.value, evidence.source) for evidence in needs.cuda_all[1:]] == [
        ("12", f"{SITE}/torch/lib/libtorch_cuda.so needs libcudart.so.12"),
        ("12.6", "pypi:nvidia-cuda-runtime-cu12-12.6.77"),
        ("12", f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12"),
    ]
    (main,) = [code for code in needs.gpu_code if code.main]
    assert (main.library, main.package) == (f"{SITE}/torch/lib/libtorch_cuda.so", "pypi:torch-2.7.1")
    assert (main.sass, main.stray, main.ptx) == (("sm_80", "sm_86", "sm_90"), ("sm_90a",), ())
    assert [evidence.value for evidence in needs.jit] == ["triton"]
    # not 2.39: the library for another maker's GPUs is never loaded
    assert needs.glibc == Evidence("2.28", f"{SITE}/torch/lib/libtorch_cuda.so needs GLIBC_2.28")
    assert (needs.rocm, needs.cpu, needs.cuda_compat, needs.cpu_builds) == (None, None, (), ())
    assert needs.disk == sum(file.stat().st_size for file in environment.prefix.rglob("*") if file.is_file())
    assert (heard.warnings, heard.notes) == ([], [])
    assert needs_from_json(json.loads(json.dumps(needs_to_json(needs)))) == needs


def test_a_torch_environment_from_conda(environment: Environment) -> None:
    environment.conda("cuda-version", "12.9", "h4f385c5_3", constrains=["cudatoolkit 12.9|12.9.*", "__cuda >=12"])
    environment.conda("numba", "0.61.0", "py311_0", constrains=["cudatoolkit >=11.2"])
    environment.conda(
        "libtorch",
        "2.7.1",
        "cuda126_generic_h1234567_200",
        depends=["__cuda", "cuda-version >=12.6,<13", "_x86_64-microarch-level >=3"],
        files={"lib/libtorch_cuda.so": TORCH["torch/lib/libtorch_cuda.so"]},
    )
    needs = environment.needs()
    assert needs.cuda is not None
    assert needs.cuda.value == "12.6"
    assert [evidence.source for evidence in needs.cuda_all] == [
        "conda:libtorch-2.7.1-cuda126_generic_h1234567_200",
        "conda:libtorch-2.7.1-cuda126_generic_h1234567_200 depends on cuda-version 12.6",
        "lib/libtorch_cuda.so needs libcudart.so.12",
        "conda:cuda-version-12.9-h4f385c5_3",
        "conda:cuda-version-12.9-h4f385c5_3 is constrained by __cuda >=12",
    ]
    assert [code.library for code in needs.gpu_code if code.main] == ["lib/libtorch_cuda.so"]
    assert needs.cpu is not None
    assert needs.cpu.value == "x86-64-v3"
    assert needs.jit == ()  # there is no NVVM: numba compiles for CPUs


PTXAS = b"\x7fELF" + b"\0" * (3 << 20) + b"Cuda compilation tools, release 12.4, V12.4.99\n" + b"\0" * 99
NVVM: dict[str, bytes | str] = {"nvidia/cuda_nvcc/nvvm/lib64/libnvvm.so": b"\x7fELF" + b"\0" * 99}


@pytest.mark.parametrize(
    ("wheels", "found"),
    [
        ({"triton-3.3.1": {"triton/backends/nvidia/bin/ptxas": PTXAS}}, [("triton", "12.4", False)]),
        ({"triton-2.1.0": {"triton/third_party/cuda/bin/ptxas": PTXAS}}, [("triton", "12.4", False)]),
        ({"triton-3.3.1": {"triton/backends/nvidia/bin/ptxas": PTXAS[:99]}}, [("triton", "", False)]),
        ({"cupy_cuda12x-13.4.0": {}}, [("cupy-cuda12x", "", False)]),
        ({"numba-0.61.0": {}}, []),
        ({"numba-0.61.0": {}, "nvidia_cuda_nvcc_cu12-12.6.77": NVVM}, [("numba", "", True)]),
        (
            {"numba-0.61.0": {}, "numba_cuda-0.4.0": {}, "nvidia_cuda_nvcc_cu12-12.6.77": NVVM},
            [("numba-cuda", "", True)],
        ),
        (
            {
                "numba-0.61.0": {},
                "numba_cuda-0.20.0": {},
                "cuda_bindings-12.9.2": {},
                "nvidia_cuda_nvcc_cu12-12.6.77": NVVM,
            },
            [("numba-cuda", "", False)],
        ),
    ],
)
def test_what_compiles_for_a_gpu_and_whether_the_driver_must_help(
    environment: Environment, wheels: dict[str, dict[str, bytes | str]], found: list[tuple[str, str, bool]]
) -> None:
    environment.wheel("nvidia-cuda-runtime-cu12", "12.6.77")
    for name, files in wheels.items():
        environment.wheel(name.rpartition("-")[0].replace("_", "-"), name.rpartition("-")[2], files)
    jit = environment.needs().jit
    assert [(compiler.value, compiler.cuda, compiler.ptx) for compiler in jit] == found


def test_a_build_for_cpus(environment: Environment) -> None:
    version = "__version__ = '2.13.0+cpu'\ncuda = None\nhip = None\n"
    environment.wheel("torch", "2.13.0+cpu", {"torch/version.py": version})
    environment.wheel("triton", "3.3.1")
    environment.wheel("xgboost", "3.0", {"xgboost/lib/libxgboost.so": library(fatbins={".nv_fatbin": CORE})})
    environment.wheel("nvidia-nccl-cu12", "2.26.2")
    needs = environment.needs()
    assert (needs.cuda, needs.rocm, needs.jit) == (None, None, ())
    assert [evidence.value for evidence in needs.cpu_builds] == ["torch"]
    assert [(code.library, code.main) for code in needs.gpu_code] == [(f"{SITE}/xgboost/lib/libxgboost.so", False)]


def test_a_build_for_rocm(environment: Environment) -> None:
    environment.wheel(
        "torch", "2.4.1", {"torch/version.py": "__version__ = '2.4.1+rocm6.1'\ncuda = None\nhip = '6.1.4'\n"}
    )
    needs = environment.needs()
    assert needs.cuda is None
    assert needs.rocm == Evidence("6.1", f"{SITE}/torch/version.py: __version__ = '2.4.1+rocm6.1'")


def test_contradictions_are_warned_of(environment: Environment) -> None:
    environment.wheel("torch", "2.7.1", TORCH)
    environment.wheel("cupy-cuda11x", "13.3.0")
    environment.wheel("bitsandbytes", "0.40", {path: data for path, data in BNB.items() if "cuda126" not in path})
    heard = RecordingReporter()
    environment.needs(heard)
    assert heard.warnings == [
        f"the environment is made for CUDA 12.6 ({SITE}/torch/version.py: cuda = '12.6'), but also for CUDA 11 "
        "(pypi:cupy-cuda11x-13.3.0): those need other libraries and drivers",
        f"{SITE}/bitsandbytes/libbitsandbytes* has libraries for CUDA 11.8, 13.0, but none for CUDA 12.6",
    ]


def test_an_environment_without_gpu_needs_little(environment: Environment) -> None:
    environment.file("bin/tool", library(versions={"libc.so.6": ["GLIBC_2.17"]}))
    environment.file("share/readme.txt", "x" * 100)
    needs = environment.needs()
    assert needs.glibc == Evidence("2.17", "bin/tool needs GLIBC_2.17")
    assert needs == DetectedNeeds(glibc=needs.glibc, disk=needs.disk)
    assert needs.disk >= 100


def test_files_that_no_loader_of_the_host_meets_do_not_count(environment: Environment) -> None:
    newest = {"libc.so.6": ["GLIBC_2.39"]}
    environment.file("lib/libx.so", library(versions={"libc.so.6": ["GLIBC_2.17"]}))
    environment.file("lib/for-another-machine.so", elf(machine=OTHER, versions=newest))
    environment.file("x86_64-conda-linux-gnu/sysroot/lib64/libm.so.6", library(versions=newest))
    environment.file("x86_64-conda-linux-gnu/sysroot/lib64/libnsl.so.1", library())
    environment.file("lib/liby.so", library(needed=["libnsl.so.1"]))
    environment.file("lib/glibc-hwcaps/x86-64-v4/libx.so", library(versions=newest, isa_needed=8))
    environment.file("lib/libx.so.debug", library(versions=newest, nobits=True))
    needs = environment.needs()
    assert needs.glibc == Evidence("2.17", "lib/libx.so needs GLIBC_2.17")
    assert needs.cpu is None
    assert needs.libraries == (HostLibrary("libnsl.so.1", "lib/liby.so"),)


def test_the_machine_is_that_of_the_environment_not_of_the_one_that_packs(environment: Environment) -> None:
    environment.conda("python", "3.11.7", "0", subdir="linux-aarch64" if OTHER == 183 else "linux-64")
    environment.file("lib/libx.so", elf(machine=OTHER, versions={"libc.so.6": ["GLIBC_2.28"]}))
    environment.file("lib/stray.so", library(versions={"libc.so.6": ["GLIBC_2.39"]}))
    needs = environment.needs()
    assert needs.glibc == Evidence("2.28", "lib/libx.so needs GLIBC_2.28")


@pytest.mark.skipif(MACHINE != 62, reason="only x86-64 has such levels")
def test_a_library_marked_for_newer_cpus_counts(environment: Environment) -> None:
    environment.file("lib/libfast.so", library(isa_needed=4))
    needs = environment.needs()
    assert needs.cpu == Evidence("x86-64-v3", "lib/libfast.so is marked so (GNU_PROPERTY_X86_ISA_1_NEEDED)")


def test_a_driver_in_the_environment_is_found_but_no_stub_of_one(environment: Environment) -> None:
    environment.file("cuda-compat/libcuda.so.560.35.05", library())
    (environment.prefix / "cuda-compat/libcuda.so.1").symlink_to("libcuda.so.560.35.05")
    environment.file("lib/stubs/libcuda.so", library())
    assert environment.needs().cuda_compat == (Evidence("560.35.05", "cuda-compat/libcuda.so.560.35.05"),)


def test_ptx_and_its_isa_are_found(environment: Environment) -> None:
    code = fatbin(Code(SASS, 90), Code(PTX, 90, (8, 5)))
    environment.wheel("mine-cu12", "1.0", {"mine/_C.so": library(fatbins={".nv_fatbin": code})})
    (found,) = environment.needs().gpu_code
    assert (found.sass, found.ptx, found.ptx_isa, found.main) == (("sm_90",), ("compute_90",), "8.5", True)


def test_isas_of_ptx_that_differ_are_in_the_manifest(environment: Environment) -> None:
    code = fatbin(Code(PTX, 90, (8, 4)), Code(PTX, 52, (7, 0)))
    environment.wheel("mine-cu12", "1.0", {"mine/_C.so": library(fatbins={".nv_fatbin": code})})
    document = json.loads(json.dumps(needs_to_json(environment.needs())))
    (found,) = needs_from_json(document).gpu_code
    assert (found.ptx_isa, found.isa("compute_52"), found.isa("compute_90")) == ("8.4", "7.0", "8.4")
    del document["gpu_code"][0]["ptx_isas"]  # a bundle of an earlier version
    (found,) = needs_from_json(document).gpu_code
    assert (found.isa("compute_52"), found.isa("compute_90")) == ("8.4", "8.4")


def test_names_with_bytes_that_are_no_text_and_damaged_libraries_are_no_obstacle(environment: Environment) -> None:
    name = os.fsdecode(b"lib/lib\xff.so")
    environment.file(name, library(versions={"libc.so.6": ["GLIBC_2.30"]}))
    environment.file("lib/cut.so", library(versions={"libc.so.6": ["GLIBC_2.99"]})[:200])
    environment.file("lib/empty.so", b"")
    environment.file("lib/torch/version.py", b"\xff\xfe cuda = '12.6'")
    needs = environment.needs()
    assert needs.glibc == Evidence("2.30", f"{name} needs GLIBC_2.30")


def test_nothing_of_the_environment_is_imported_or_run(environment: Environment, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    code = f"open({str(witness)!r}, 'w')\n__version__ = '2.7.1+cu126'\ncuda = '12.6'\n"
    environment.wheel("torch", "2.7.1", {"torch/version.py": code, "torch/__init__.py": code})
    environment.file("bin/python3.11", f"#!/bin/sh\ntouch {witness}\n")
    before = set(sys.modules)
    assert environment.needs().cuda is not None
    assert not witness.exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("torch")}


def test_two_readings_give_the_same(environment: Environment) -> None:
    environment.wheel("torch", "2.7.1", TORCH)
    environment.wheel("bitsandbytes", "0.50.2", BNB)
    assert needs_to_json(environment.needs()) == needs_to_json(environment.needs())


def test_torch_without_the_nvidia_wheels_needs_their_libraries_of_the_host(environment: Environment) -> None:
    """The check of a host fails for them; with the wheel, the library is in the environment."""
    environment.wheel("torch", "2.7.1", TORCH)
    (left,) = environment.needs().libraries
    assert (left.value, left.main) == ("libcudart.so.12", True)
    assert left.source.endswith("torch/lib/libtorch_cuda.so")
    runtime = library(soname="libcudart.so.12")
    environment.wheel("nvidia-cuda-runtime-cu12", "12.6.77", {"nvidia/cuda_runtime/lib/libcudart.so.12": runtime})
    assert environment.needs().libraries == ()


def ptxas(release: str, *names: str) -> bytes:
    text = "".join(f"{name}\0" for name in names) + f"Cuda compilation tools, release {release}, V{release}.1\n"
    return b"\x7fELF" + b"\0" * (1 << 20) + text.encode() + b"\0" * 99


def test_the_gpus_that_each_ptxas_of_triton_knows(environment: Environment) -> None:
    """Names of compute_ count; those of sm_ are also in messages about GPUs that are known no more (CUDA 13.4)."""
    environment.wheel("nvidia-cuda-runtime-cu12", "12.6.77")
    folder = "triton/backends/nvidia/bin"
    newer = ptxas("13.4", "sm_70", "sm_103", "compute_103", "compute_103a")
    files: dict[str, bytes | str] = {f"{folder}/ptxas": ptxas("12.8", "sm_90", "sm_90a")}
    environment.wheel("triton", "3.9.0", {**files, f"{folder}/ptxas-blackwell": newer})
    found = [
        (compiler.cuda, compiler.least, compiler.targets, compiler.c_compiler)
        for compiler in environment.needs().jit
    ]
    assert found == [("13.4", "10.0", ("103", "103a"), True), ("12.8", "", ("90", "90a"), True)]
    environment.conda("gcc", "14.2.0", files={"bin/gcc": "#!/bin/sh\n"})
    assert not any(compiler.c_compiler for compiler in environment.needs().jit)
