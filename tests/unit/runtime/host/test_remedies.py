"""Remedies that would help: never what is there already, and an older CUDA for a GPU that a newer one dropped."""

from __future__ import annotations

import pytest

from envpack.runtime.format.needs import DetectedNeeds, Evidence, GpuCode
from envpack.runtime.host.checks.remedies import code_remedy, package_name, update_driver
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.requirements import Requirements


def remedy(package: str, cuda: str, capability: str, *, torch: bool = False, subdir: str = "linux-64") -> str:
    gpu = Gpu(0, "a GPU", compute_capability=capability)
    facts = HostFacts(subdir=subdir, nvidia=Nvidia("ok", "580.95.05", "13.0", devices=(gpu,)))
    wanted = Requirements("demo", subdir, needs=DetectedNeeds(cuda=Evidence(cuda, "x")), torch=torch)
    return code_remedy(wanted, facts, GpuCode("lib/x.so", package, ("sm_80",), main=True), gpu)


def test_the_version_that_is_installed_is_no_remedy() -> None:
    assert remedy("pypi:onnxruntime_gpu-1.31.1", "13.0", "10.3") == (
        "rebuild with another version of onnxruntime_gpu, or with a build of it that has code for sm_103"
    )
    assert "cu128" not in remedy("pypi:torch-2.9.1", "12.8", "12.0", torch=True)
    host = HostFacts(nvidia=Nvidia("ok", "580.95.05"))
    assert update_driver(host, "570.26") == "update the driver"
    assert update_driver(host, "590.44.01") == "update the driver to >= 590.44.01"


@pytest.mark.parametrize(
    ("cuda", "capability", "last"),
    [("13.0", "7.0", "12"), ("13", "6.1", "12"), ("12.6", "3.7", "11"), ("12.6", "3.0", "10")],
)
def test_a_gpu_that_this_cuda_dropped_needs_an_older_one(cuda: str, capability: str, last: str) -> None:
    assert remedy("pypi:cupy_cuda13x-14.0", cuda, capability).startswith(f"rebuild for CUDA {last}, the last with")
    assert "another version" in remedy("pypi:cupy_cuda13x-14.0", cuda, "7.5")


def test_a_gpu_that_no_build_of_torch_has_code_for() -> None:
    torch = "pypi:torch-2.14.1"
    assert remedy(torch, "13.0", "13.0", torch=True).startswith("rebuild with a newer torch: no build that")
    assert "NVIDIA's own torch for Jetson Orin" in remedy(torch, "13.0", "8.7", torch=True, subdir="linux-aarch64")
    assert remedy(torch, "13.0", "3.5", torch=True).startswith("use another GPU")


def test_builds_are_those_of_the_platform() -> None:
    assert "cu13" in remedy("pypi:torch-2.9.1", "12.8", "11.0", torch=True, subdir="linux-aarch64")
    assert "cu126" in remedy("pypi:torch-2.9.1", "13.0", "7.0", torch=True)


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("pypi:onnxruntime_gpu-1.31.1", "onnxruntime_gpu"),
        ("conda:libmagma-2.8.0-h0af6554_0", "libmagma"),
        ("torch", "torch"),
        ("", ""),
    ],
)
def test_the_name_of_a_package(segment: str, name: str) -> None:
    assert package_name(segment) == name
