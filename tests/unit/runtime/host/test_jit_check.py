"""Compilers at run time: the GPUs that a ptxas knows, which one triton uses, and the host's C compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.runtime.format.needs import Compiler, DetectedNeeds, Evidence
from envpack.runtime.host.checks.evaluate import evaluate
from envpack.runtime.host.detect.machine import c_compiler
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.requirements import Requirements

OLD = Compiler(
    "triton", "ptxas", "12.8", targets=("75", "80", "86", "89", "90", "90a", "100", "100a", "101", "120")
)
NEW = Compiler("triton", "ptxas-blackwell", "13.4", targets=("100", "103", "110", "120", "121"), least="10.0")


def judged(
    *compilers: Compiler, gpu: str, driver: tuple[str, str], cc: str | None = "gcc"
) -> list[tuple[str, str]]:
    nvidia = Nvidia("ok", *driver, devices=(Gpu(0, "a GPU", compute_capability=gpu),))
    needs = DetectedNeeds(cuda=Evidence("12.8", "x"), jit=compilers)
    facts = HostFacts(subdir="linux-64", nvidia=nvidia, c_compiler=cc)
    found = evaluate(Requirements("demo", "linux-64", needs=needs), facts)
    return [(item.verdict, item.says) for item in found if item.requirement == "jit"]


R580, R570 = ("580.95.05", "13.0"), ("570.124.06", "12.8")


@pytest.mark.parametrize(
    ("compilers", "gpu", "said"),
    [
        ([OLD], "10.0", ""),
        ([OLD], "8.9", ""),
        ([OLD], "11.0", "which does not know a GPU (sm_110)"),  # triton asks for sm_110a, and its name is sm_101a
        ([OLD], "10.3", "with a ptxas of CUDA 12.8, which does not know a GPU (sm_103)"),
        ([OLD], "12.1", "which does not know a GPU (sm_121)"),
        ([OLD, NEW], "10.3", ""),
        ([OLD, NEW], "8.9", ""),
        ([OLD, NEW], "10.7", "with a ptxas of CUDA 13.4, which does not know a GPU (sm_107)"),
        ([Compiler("triton", "ptxas", "12.8")], "10.3", ""),
        ([Compiler("cupy", "NVRTC")], "10.3", ""),
    ],
)
def test_a_compiler_knows_the_gpu_or_is_a_warning(compilers: list[Compiler], gpu: str, said: str) -> None:
    found = judged(*compilers, gpu=gpu, driver=R580)
    assert [verdict for verdict, _ in found] == ["warning" if said else "ok"]
    assert said in found[0][1]


def test_the_remedy_names_the_variable_of_the_compiler_that_is_used() -> None:
    needs = DetectedNeeds(cuda=Evidence("12.8", "x"), jit=(OLD, NEW))
    for capability, variable in (("8.8", "TRITON_PTXAS_PATH"), ("10.7", "TRITON_PTXAS_BLACKWELL_PATH")):
        nvidia = Nvidia("ok", *R580, devices=(Gpu(0, compute_capability=capability),))
        facts = HostFacts(subdir="linux-64", nvidia=nvidia, c_compiler="gcc")
        (found,) = [
            verdict.remedy
            for verdict in evaluate(Requirements("demo", "linux-64", needs=needs), facts)
            if verdict.requirement == "jit"
        ]
        assert found.endswith(f"let {variable} name a newer ptxas")


def test_the_driver_is_compared_with_the_compiler_that_is_used() -> None:
    """triton uses ptxas-blackwell only on Blackwell; on H100 a driver for CUDA 12 runs what the other makes."""
    assert judged(OLD, NEW, gpu="9.0", driver=R570) == [("ok", "")]
    assert judged(OLD, NEW, gpu="10.0", driver=R570)[0][0] == "warning"


@pytest.mark.parametrize(("cc", "verdicts"), [("", ["ok", "warning"]), ("gcc", ["ok"]), (None, ["ok"])])
def test_triton_without_a_c_compiler_is_a_warning(cc: str | None, verdicts: list[str]) -> None:
    needing = Compiler("triton", "ptxas", "12.8", c_compiler=True)
    assert [verdict for verdict, _ in judged(needing, gpu="9.0", driver=R570, cc=cc)] == verdicts


def test_the_c_compiler_is_that_of_cc_or_on_path(tmp_path: Path) -> None:
    assert c_compiler({"PATH": str(tmp_path)}) == ""
    for name in ("cc", "clang"):
        assert c_compiler({"PATH": str(tmp_path), "CC": "clang -m64"}) == ""
        assert c_compiler({"PATH": str(tmp_path)}) == ""  # triton does not look for cc
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    assert c_compiler({"PATH": str(tmp_path), "CC": "clang -m64"}) == "clang -m64"
    assert c_compiler({"PATH": str(tmp_path), "CC": "/gone/cc"}) == ""
    assert c_compiler({"PATH": str(tmp_path)}) == str(tmp_path / "clang")
