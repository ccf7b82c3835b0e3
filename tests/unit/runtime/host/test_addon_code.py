"""The GPU code of add-ons: each library for itself, next to that of the main libraries."""

from __future__ import annotations

import pytest

from envpack.runtime.format.needs import DetectedNeeds, Evidence, GpuCode
from envpack.runtime.host.checks.evaluate import evaluate
from envpack.runtime.host.checks.verdict import Verdict
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.requirements import Requirements

TORCH = GpuCode("torch/lib/libtorch_cuda.so", "torch", ("sm_70", "sm_80", "sm_90", "sm_100", "sm_120"), main=True)
FA2 = GpuCode("vllm/_vllm_fa2_C.abi3.so", "vllm", ("sm_80",), ("compute_80",), "8.7", addon=True)
FA3 = GpuCode("vllm/_vllm_fa3_C.abi3.so", "vllm", ("sm_90a",), addon=True)


def judged(capabilities: list[str], cuda: str, *addons: GpuCode) -> list[Verdict]:
    gpus = tuple(Gpu(index, f"GPU{index}", compute_capability=text) for index, text in enumerate(capabilities))
    nvidia = Nvidia("ok", {"12.4": "550.144.03", "12.8": "570.124.06"}[cuda], cuda, devices=gpus)
    needs = DetectedNeeds(cuda=Evidence("12.8", "x"), gpu_code=(TORCH, *addons))
    wanted = Requirements("demo", "linux-64", needs=needs)
    found = evaluate(wanted, HostFacts(subdir="linux-64", nvidia=nvidia))
    return [item for item in found if item.requirement == "gpu_code"]


@pytest.mark.parametrize(
    ("capability", "cuda", "addons", "said"),
    [
        (
            "9.0",
            "12.4",
            [FA2],
            "has only PTX 8.7 for GPU0 (sm_90), but the driver (CUDA 12.4) compiles only PTX up to 8.4",
        ),
        ("9.0", "12.8", [FA2], ""),
        ("8.0", "12.4", [FA2], ""),
        ("8.0", "12.4", [FA2, FA3], ""),  # the other library of the package is for this GPU
        ("8.0", "12.4", [FA3], "vllm/_vllm_fa3_C.abi3.so has code for sm_90a"),
        ("7.0", "12.4", [FA2, FA3], "vllm/_vllm_fa2_C.abi3.so has code for sm_80"),
    ],
)
def test_an_add_on_that_can_t_run_on_the_gpu_is_a_warning(
    capability: str, cuda: str, addons: list[GpuCode], said: str
) -> None:
    main, *more = judged([capability], cuda, *addons)
    assert main.verdict == "ok"
    assert [item.verdict for item in more] == (["warning"] if said else [])
    assert not said or (said in more[0].says and more[0].remedy)


def test_other_libraries_of_a_package_whose_main_one_fails_are_not_reported_again() -> None:
    linalg = GpuCode("torch/lib/libtorch_cuda_linalg.so", "torch", ("sm_80",), addon=True)
    assert [item.verdict for item in judged(["5.0"], "12.4", linalg)] == ["failed"]
    assert [item.verdict for item in judged(["5.0"], "12.4", linalg, FA3)] == ["failed", "warning"]


def test_variants_and_nvidia_s_own_libraries_are_no_add_ons() -> None:
    variant = GpuCode("bitsandbytes/libbitsandbytes_cuda118.so", "bitsandbytes", ("sm_50",))
    assert len(judged(["9.0"], "12.8", variant)) == 1


def test_the_coverage_of_each_library_is_evidence() -> None:
    main, *_ = judged(["8.0", "9.0"], "12.8", FA2)
    assert (
        main.evidence == "torch/lib/libtorch_cuda.so (machine code), vllm/_vllm_fa2_C.abi3.so (machine code, PTX)"
    )
