"""NVIDIA_REQUIRE_CUDA: read, evaluated, written, and made of a bundle's requirements."""

from __future__ import annotations

import pytest

from envpack.runtime.format.needs import DetectedNeeds, Evidence, GpuCode
from envpack.runtime.host.checks.registry import parse_need
from envpack.runtime.host.exports import require_cuda_of
from envpack.runtime.host.minimum import Minimum
from envpack.runtime.host.require_cuda import evaluate, format_expression, least_cuda, parse
from envpack.runtime.host.requirements import Requirements

OF_AN_IMAGE = "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=535,driver<536"


def test_what_is_read_is_written_again() -> None:
    assert format_expression(parse(OF_AN_IMAGE)) == OF_AN_IMAGE


@pytest.mark.parametrize(
    ("properties", "holds"),
    [
        ({"cuda": "12.4"}, True),
        ({"cuda": "13.0", "driver": "580.65.06", "brand": "geforce"}, True),
        ({"cuda": "11.4", "driver": "470.57.02", "brand": "tesla"}, True),
        ({"cuda": "11.4", "driver": "470.57.02", "brand": "geforce"}, False),
        ({"cuda": "11.4", "driver": "471.0", "brand": "tesla"}, False),
        ({"cuda": "11.4", "driver": "470.57.02"}, None),
        ({"cuda": "11.4", "driver": "470.57.02", "brand": "unknown"}, None),
        ({"cuda": "11.4", "driver": "535.54.03", "brand": "unknown"}, True),
        ({"driver": "450.80.02"}, None),
        ({}, None),
    ],
)
def test_a_blank_is_or_and_a_comma_is_and(properties: dict[str, str], holds: bool | None) -> None:
    assert evaluate(parse(OF_AN_IMAGE), properties) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [("arch=8.6", True), ("arch!=8.6", False), ("arch<=8.6", True), ("arch>8.6", False), ("arch<10.0", True)],
)
def test_operators(text: str, holds: bool) -> None:
    assert evaluate(parse(text), {"arch": "8.6"}) is holds


def test_a_driver_without_a_number_in_its_branch_is_of_that_branch() -> None:
    assert evaluate(parse("driver>=580.65.06"), {"driver": "580.00"}) is True
    assert evaluate(parse("driver>=580.65.06"), {"driver": "580.40"}) is False


def test_unknown_properties_are_ignored_as_the_toolkit_does() -> None:
    assert format_expression(parse("cuda>=11.6,color=red shape=round")) == "cuda>=11.6"


@pytest.mark.parametrize("text", ["", "cuda", "cuda=foo", "cuda>=12.4 driver", "shape=round", "cuda>="])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_spec_may_hold_one() -> None:
    assert parse_need("cuda", "11.8") == Minimum("11.8", "11.8")
    need = parse_need("cuda", OF_AN_IMAGE)
    assert (need.minimum, need.is_expression, need.version) == ("12.4", True, (12, 4))
    assert not parse_need("cuda", ">= 11.8").is_expression
    assert least_cuda(parse("cuda>=12.4 cuda>=9.2,brand=tesla")) == "9.2"
    with pytest.raises(ValueError, match="minimum CUDA version"):
        parse_need("cuda", "driver>=470")
    with pytest.raises(ValueError, match="'x' is not a version"):
        parse_need("cuda", "cuda>=x")


def wanted(*codes: GpuCode, **stated: str) -> Requirements:
    needs = DetectedNeeds(cuda=Evidence("12.6", "torch/version.py"), gpu_code=codes)
    return Requirements(
        "demo", "linux-64", {name: parse_need(name, text) for name, text in stated.items()}, needs=needs
    )


def code(*targets: str, main: bool = True) -> GpuCode:
    sass = tuple(name for name in targets if name.startswith("sm_"))
    return GpuCode("lib.so", "p", sass, tuple(name for name in targets if name not in sass), main=main)


TORCH = code("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")


@pytest.mark.parametrize(
    ("asked", "expression"),
    [
        (wanted(), "driver>=525.60.13"),
        (wanted(TORCH), "driver>=525.60.13,arch>=5.0,arch<10.0"),
        (wanted(TORCH, compute_capability=">=8.0"), "driver>=525.60.13,arch>=8.0,arch<10.0"),
        (wanted(TORCH, driver="535"), "driver>=535,arch>=5.0,arch<10.0"),
        (wanted(TORCH, driver="470"), "driver>=525.60.13,arch>=5.0,arch<10.0"),
        (wanted(code("sm_80", "compute_80")), "driver>=525.60.13,arch>=8.0"),
        (wanted(code("sm_90a")), "driver>=525.60.13,arch>=9.0,arch<9.1"),
        (
            wanted(code("sm_70", "sm_90")),
            "driver>=525.60.13,arch>=7.0,arch<8.0 driver>=525.60.13,arch>=9.0,arch<10.0",
        ),
        (wanted(TORCH, code("sm_80", "sm_90")), "driver>=525.60.13,arch>=8.0,arch<10.0"),
        (wanted(TORCH, code("sm_37", main=False)), "driver>=525.60.13,arch>=5.0,arch<10.0"),
        (wanted(cuda="14.0"), "cuda>=14.0"),
        (wanted(cuda=OF_AN_IMAGE), OF_AN_IMAGE),
        (Requirements("demo", "linux-64"), ""),
    ],
)
def test_a_bundle_s_requirements_as_an_expression(asked: Requirements, expression: str) -> None:
    assert require_cuda_of(asked) == expression
    assert not expression or format_expression(parse(expression)) == expression
