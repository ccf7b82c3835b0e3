"""The needs of an environment in the output of ``envpack inspect``."""

from __future__ import annotations

from envpack.cli.output import needs_lines
from envpack.runtime.format.needs import Compiler, DetectedNeeds, Evidence, GpuCode


def test_each_need_is_shown_with_its_evidence_and_main_libraries_only() -> None:
    needs = DetectedNeeds(
        cuda=Evidence("12.6", "torch/version.py: cuda = '12.6'"),
        gpu_code=(
            GpuCode("libcublas.so.12", "", sass=("sm_50",)),
            GpuCode(
                "libtorch_cuda.so", "pypi:torch-2.7.1", sass=("sm_50", "sm_90a"), ptx=("compute_90",), main=True
            ),
        ),
        jit=(Compiler("triton", "x"), Compiler("numba", "y", ptx=True)),
        cuda_compat=(Evidence("560.35.05", "cuda-compat/libcuda.so.560.35.05"),),
        glibc=Evidence("2.28", "lib/libx.so needs GLIBC_2.28"),
        cpu=Evidence("x86-64-v3", "lib/libx.so is marked so"),
    )
    assert list(needs_lines(needs)) == [
        ("CUDA", "12.6, torch/version.py: cuda = '12.6'"),
        ("GPU code", "sm_50, 90a, PTX compute_90 in libtorch_cuda.so"),
        ("compiles", "for the GPU at run time: triton, numba"),
        ("driver", "560.35.05 is included, for forward compatibility: cuda-compat/libcuda.so.560.35.05"),
        ("glibc", "2.28, lib/libx.so needs GLIBC_2.28"),
        ("CPU", "x86-64-v3, lib/libx.so is marked so"),
    ]


def test_a_build_for_cpus_and_one_for_rocm_say_so() -> None:
    cpu = DetectedNeeds(cpu_builds=(Evidence("torch", "torch/version.py: __version__ = '2.13.0+cpu'"),))
    assert list(needs_lines(cpu)) == [("no GPU", "torch/version.py: __version__ = '2.13.0+cpu'")]
    rocm = DetectedNeeds(rocm=Evidence("6.2", "torch/version.py: hip"), cpu_builds=cpu.cpu_builds)
    assert list(needs_lines(rocm)) == [("ROCm", "6.2, torch/version.py: hip")]


def test_an_environment_that_needs_nothing_shows_nothing() -> None:
    assert list(needs_lines(DetectedNeeds(disk=5))) == []
