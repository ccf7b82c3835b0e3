"""The GPU code that each GPU runs."""

from __future__ import annotations

import pytest

from envpack.runtime.format.needs import GpuCode
from envpack.runtime.host.arch import Coverage, capability, coverage, runs_ptx, runs_sass, target_of


@pytest.mark.parametrize(
    ("target", "device", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_80", (8, 7), False),
        ("sm_87", (8, 7), True),
        ("sm_87", (8, 9), False),
        ("sm_52", (5, 3), False),
        ("sm_53", (5, 3), True),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_103f", (10, 0), False),
        ("sm_100f", (10, 7), True),
        ("sm_103f", (10, 7), True),
        ("sm_107f", (10, 7), True),
        ("sm_107f", (10, 3), False),
        ("sm_100", (10, 7), True),
        ("sm_86", (8, 8), False),
        ("sm_88", (8, 8), True),
        ("sm_88", (8, 9), False),
        ("sm_120f", (12, 1), True),
        ("sm_120", (12, 1), True),
        ("sm_101", (11, 0), True),
        ("sm_110", (11, 0), True),
    ],
)
def test_machine_code(target: str, device: tuple[int, int], runs: bool) -> None:
    parsed = target_of(target)
    assert parsed is not None and runs_sass(parsed, device) is runs


@pytest.mark.parametrize(
    ("target", "device", "runs"),
    [
        ("compute_70", (7, 0), True),
        ("compute_70", (12, 0), True),
        ("compute_90", (8, 9), False),
        ("compute_90a", (9, 0), True),
        ("compute_90a", (10, 0), False),
    ],
)
def test_ptx(target: str, device: tuple[int, int], runs: bool) -> None:
    parsed = target_of(target)
    assert parsed is not None and runs_ptx(parsed, device) is runs


def test_names_that_are_none() -> None:
    assert [target_of(name) for name in ("", "sm_", "sm_9", "gfx90a", "sm_90b")] == [None] * 5
    assert [capability(text) for text in ("8.6", "12.0", "", "8", "a.b")] == [(8, 6), (12, 0), None, None, None]


CODE = GpuCode("lib.so", "p", sass=("sm_80",), ptx=("compute_80",), ptx_isa="8.5", main=True)


@pytest.mark.parametrize(
    ("device", "cuda", "found"),
    [
        ((8, 6), "", Coverage("sass", "sm_80")),
        ((9, 0), "12.6", Coverage("ptx", "compute_80")),
        ((9, 0), "12.4", Coverage("ptx-too-new", "8.5")),
        ((9, 0), "", Coverage("ptx-unknown", "8.5")),
        ((7, 5), "12.6", Coverage("none")),
    ],
)
def test_how_a_library_reaches_a_gpu(device: tuple[int, int], cuda: str, found: Coverage) -> None:
    assert coverage(CODE, device, cuda) == found


@pytest.mark.parametrize(
    ("isas", "device", "found"),
    [
        (("7.0", "8.4"), (8, 0), Coverage("ptx", "compute_52")),
        (("7.0", "8.4"), (9, 0), Coverage("ptx-too-new", "8.4")),
        (("8.4", "7.0"), (8, 0), Coverage("ptx-too-new", "8.4")),
        (("8.4", "7.0"), (10, 0), Coverage("ptx", "compute_90")),
        (("7.0", "99.9"), (9, 0), Coverage("ptx-unknown", "99.9")),
        (("7.0", "99.9"), (8, 9), Coverage("ptx", "compute_52")),
        ((), (8, 0), Coverage("ptx-too-new", "8.4")),
    ],
)
def test_the_isa_of_the_highest_target_that_the_gpu_runs_decides(
    isas: tuple[str, ...], device: tuple[int, int], found: Coverage
) -> None:
    code = GpuCode("lib.so", "p", ptx=("compute_52", "compute_90"), ptx_isa="8.4", ptx_isas=isas)
    assert coverage(code, device, "12.0") == found


def test_the_target_of_the_gpu_itself_and_the_present_number_of_a_renamed_one_are_highest() -> None:
    own = GpuCode("lib.so", "p", ptx=("compute_90", "compute_90a"), ptx_isa="8.4", ptx_isas=("7.0", "8.4"))
    assert coverage(own, (9, 0), "12.0") == Coverage("ptx-too-new", "8.4")
    assert coverage(own, (10, 0), "12.0") == Coverage("ptx", "compute_90")
    renamed = GpuCode("lib.so", "p", ptx=("compute_101", "compute_103"), ptx_isa="8.8", ptx_isas=("8.7", "8.8"))
    assert coverage(renamed, (11, 0), "12.8") == Coverage("ptx", "compute_101")
