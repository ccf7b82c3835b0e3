"""Requirements of a spec compared with detected needs: too low ones are reported."""

from __future__ import annotations

import pytest

from envpack.prefix.needs.requires import contradictions
from envpack.runtime.format.needs import DetectedNeeds, Evidence, GpuCode

TORCH = DetectedNeeds(
    cuda=Evidence("12.6", "torch/version.py: cuda = '12.6'"),
    gpu_code=(
        GpuCode("torch/lib/libtorch_cuda.so", "pypi:torch-2.7.1", sass=("sm_75", "sm_80", "sm_90"), main=True),
        GpuCode("other.so", "", sass=("sm_90",)),
    ),
    glibc=Evidence("2.28", "lib/libx.so needs GLIBC_2.28"),
    disk=6_000_000_000,
)
CPU_ONLY = DetectedNeeds(cpu_builds=(Evidence("torch", "torch/version.py: __version__ = '2.13.0+cpu'"),))
ROCM = DetectedNeeds(rocm=Evidence("6.2", "torch/version.py: __version__ = '2.6.0+rocm6.2'"))


@pytest.mark.parametrize(
    ("requires", "needs", "sentence"),
    [
        (
            {"cuda": "11.8"},
            TORCH,
            "requires cuda is 11.8, but the environment is for CUDA 12.6, which drivers for CUDA 11.8 do not "
            "support: torch/version.py: cuda = '12.6'",
        ),
        (
            {"cuda": "12.6"},
            CPU_ONLY,
            "requires cuda is 12.6, but the environment is a build for CPUs only: torch/version.py: "
            "__version__ = '2.13.0+cpu'",
        ),
        (
            {"cuda": ">=12.4"},
            ROCM,
            "requires cuda is >=12.4, but the environment is for ROCm: torch/version.py: "
            "__version__ = '2.6.0+rocm6.2'",
        ),
        (
            {"driver": "470.57.02"},
            TORCH,
            "requires driver is 470.57.02, but CUDA 12.6 needs driver 525.60.13 or later: torch/version.py: "
            "cuda = '12.6'",
        ),
        (
            {"compute_capability": ">=6.1"},
            TORCH,
            "requires compute_capability is >=6.1, but torch/lib/libtorch_cuda.so has no code for 6.1: "
            "sm_75 sm_80 sm_90",
        ),
        (
            {"glibc": "2.17"},
            TORCH,
            "requires glibc is 2.17, but glibc 2.28 is needed: lib/libx.so needs GLIBC_2.28",
        ),
        ({"disk": "5 GB"}, TORCH, "requires disk is 5 GB, but the environment needs 6.0 GB"),
    ],
)
def test_what_a_host_can_meet_and_still_not_run_it(
    requires: dict[str, str], needs: DetectedNeeds, sentence: str
) -> None:
    assert contradictions(requires, needs) == [sentence]


@pytest.mark.parametrize(
    "requires",
    [
        {},
        {"cuda": "12.6"},
        {"cuda": "12.0"},
        {"cuda": "12.8"},
        {"cuda": "13.0"},
        {"driver": "525.60.13"},
        {"driver": "580.65.06"},
        {"compute_capability": "7.5"},
        {"compute_capability": ">=8.6"},
        {"glibc": "2.28"},
        {"glibc": "2.35"},
        {"disk": "6 GB"},
        {"memory": "1 GB", "cpus": "2", "gpu_memory": "8 GB"},
        {"cuda": "not a version", "unheard_of": "1"},
    ],
    ids=str,
)
def test_asking_for_as_much_or_more_is_no_contradiction(requires: dict[str, str]) -> None:
    assert contradictions(requires, TORCH) == []


@pytest.mark.parametrize("requires", [{"cuda": "11.8"}, {"driver": "450.80.02"}, {"glibc": "2.17"}], ids=str)
def test_where_nothing_was_found_nothing_contradicts(requires: dict[str, str]) -> None:
    """Programs load CUDA without leaving evidence; what the spec says stands."""
    assert contradictions(requires, DetectedNeeds()) == []
