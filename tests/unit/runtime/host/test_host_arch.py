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
        ((9, 0), "", Coverage("ptx-unknown", "compute_80")),
        ((7, 5), "12.6", Coverage("none")),
    ],
)
def test_how_a_library_reaches_a_gpu(device: tuple[int, int], cuda: str, found: Coverage) -> None:
    assert coverage(CODE, device, cuda) == found
