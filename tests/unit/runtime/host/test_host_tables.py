"""The tables: every row has its source and date, and says what NVIDIA's documents say."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

import envpack
from envpack.runtime.host.arch import target_of
from envpack.runtime.host.checks.remedies import has_code_for, torch_builds
from envpack.runtime.host.detect.cuda_probe import Probe, judged
from envpack.runtime.host.detect.nvidia import with_probe
from envpack.runtime.host.detect.nvml import _STATES
from envpack.runtime.host.doctor import diagnose
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.tables import (
    branch_cuda,
    distributions,
    isa_row,
    made_isa,
    minimum_driver,
    native_driver,
    native_toolkit,
    newest_isa,
    retired,
    state_row,
    table,
)
from envpack.runtime.host.versions import at_least, compare, major, major_minor, numbers

DATA = Path(envpack.__file__).parent / "runtime/host/data"
ROWS = [
    (path.stem, name, row)
    for path in sorted(DATA.glob("*.json"))
    for name, rows in json.loads(path.read_text(encoding="utf-8")).items()
    if name != "about"
    for row in rows
]


OWN = ("envpack itself", "no display device of vendor")
"""The beginnings of sources that need no document."""


def test_every_row_has_a_source_and_a_date() -> None:
    """A document that can be looked up, and the day it was; nothing here is from memory."""
    assert len(ROWS) > 100
    for file, name, row in ROWS:
        assert "https://" in row["source"] or row["source"].startswith(OWN), (file, name, row)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"]), (file, name, row)


def test_no_gpu_of_a_build_of_torch_is_only_in_its_older_wheels() -> None:
    """The pip line installs the newest of an index, and torch 2.11 for cu128 has no code for Volta any more."""
    builds = {row["build"]: row["sass"] for row in torch_builds("linux-64")}
    assert "sm_70" in builds["cu126"] and "sm_70" not in builds["cu128"]


def test_newer_toolkits_came_with_newer_drivers() -> None:
    rows = table("cuda", "toolkits")
    for older, newer in pairwise(rows):
        assert compare(older["cuda"], newer["cuda"]) < 0
        assert compare(older["driver"], newer["driver"]) <= 0  # an update may bring the same driver, or none


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [
        ("10.2", "440.33"),
        ("11.0", "450.80.02"),
        ("11.8", "450.80.02"),
        ("12.0", "525.60.13"),
        ("12.6.3", "525.60.13"),
        ("12.99", "525.60.13"),
        ("13.2", "580.65.06"),
    ],
)
def test_the_least_driver(cuda: str, driver: str) -> None:
    row = minimum_driver(cuda)
    assert row is not None and row["driver"] == driver


@pytest.mark.parametrize("cuda", ["14.0", "8.0", "", "none"])
def test_where_no_row_reaches_there_is_none(cuda: str) -> None:
    assert minimum_driver(cuda) is None


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [
        ("12.6", "560.28.03"),
        ("12.6.2", "560.35.03"),
        ("12.6.3", "560.35.05"),
        ("11.4.2", "470.57.02"),
        ("13.3.1", "610.43.02"),
        ("13.4", "615"),
        ("13.5", "620"),
    ],
)
def test_the_native_driver_is_that_of_the_update(cuda: str, driver: str) -> None:
    row = native_driver(cuda)
    assert row is not None and row["driver"] == driver


@pytest.mark.parametrize(
    ("driver", "toolkit", "speaks"),
    [
        ("470.57.02", "11.4.1", "11.4"),
        ("550.54.14", "12.4.0", "12.4"),
        ("550.54.13", "12.3.1", "12.4"),
        ("565.57.01", "12.6.3", "12.7"),
        ("610.43.02", "13.3.1", "13.3"),
        ("615.71.09", "13.4.2", "13.4"),
        ("616.00", "13.4.2", "13.4"),
        ("620.70.06", "13.5", "13.5"),
        ("640.10.01", "13.5", ""),
    ],
)
def test_what_a_driver_speaks(driver: str, toolkit: str, speaks: str) -> None:
    row = native_toolkit(driver)
    assert row is not None and row["cuda"] == toolkit
    assert branch_cuda(driver) == speaks


def test_a_driver_older_than_the_tables_has_no_toolkit() -> None:
    assert native_toolkit("340.108") is None


@pytest.mark.parametrize(
    ("isa", "cuda"),
    [("7.0", "11.0"), ("8.5", "12.5"), ("8.6", "12.7"), ("9.3", "13.3"), ("9.5", "13.5"), ("6.4", "11.0")],
)
def test_ptx(isa: str, cuda: str) -> None:
    row = isa_row(isa)
    assert row is not None and row["cuda"] == cuda


@pytest.mark.parametrize("isa", ["9.9", "", "x"])
def test_ptx_newer_than_the_table_is_unknown(isa: str) -> None:
    assert isa_row(isa) is None


def test_cuda_12_6_compiles_what_12_5_does() -> None:
    assert newest_isa("12.6") == newest_isa("12.5") == "8.5"
    assert newest_isa("10.2") == ""


@pytest.mark.parametrize(
    ("cuda", "isa"),
    [("12.6", "8.5"), ("12.6.3", "8.5"), ("13.4", "9.4"), ("13.5", "9.5"), ("14.0", ""), ("10.2", "")],
)
def test_the_ptx_that_a_toolkit_makes(cuda: str, isa: str) -> None:
    assert made_isa(cuda) == isa


def test_every_build_of_torch_has_a_driver_targets_and_a_pip_line() -> None:
    for row in table("torch", "builds"):
        assert row["pip"].startswith("pip install torch --index-url ") and row["pip"].endswith(f"/{row['build']}")
        if row["cuda"]:
            assert minimum_driver(row["cuda"]) is not None
            assert row["build"] == f"cu{row['cuda'].replace('.', '')}"
            assert row["sass"] and all(target_of(name) for name in row["sass"] + row["ptx"])
            assert len(row["subdirs"]) == 1


@pytest.mark.parametrize(
    ("subdir", "build", "torch", "code"),
    [
        ("linux-64", "cu126", "2.6 to 2.14", "50 60 70 75 80 86 90"),
        ("linux-64", "cu129", "2.8 to 2.13", "75 80 86 90 100 120"),
        ("linux-64", "cu132", "from 2.12 on", "75 80 86 90 100 120"),
        ("linux-aarch64", "cu126", "up to 2.14", "80 90"),
        ("linux-aarch64", "cu128", "up to 2.11", "80 90 100 120"),
        ("linux-aarch64", "cu129", "up to 2.13", "80 90 100 120"),
        ("linux-aarch64", "cu130", "from 2.9 on", "80 90 100 110 120"),
        ("linux-aarch64", "cu132", "from 2.12 on", "80 90 100 110 120"),
    ],
)
def test_a_build_of_torch(subdir: str, build: str, torch: str, code: str) -> None:
    (row,) = (row for row in torch_builds(subdir) if row["build"] == build)
    targets = [name[len("sm_") :] for name in row["sass"]] + [
        f"{name[len('compute_') :]}+PTX" for name in row["ptx"]
    ]
    assert (row["torch"], " ".join(targets)) == (torch, code)


def test_each_platform_has_each_build_of_torch_once_the_oldest_cuda_first() -> None:
    for subdir in ("linux-64", "linux-aarch64"):
        rows = torch_builds(subdir)
        assert [row["build"] for row in rows][-1] == "cpu"
        assert all(compare(older["cuda"], newer["cuda"]) < 0 for older, newer in pairwise(rows[:-1]))
    assert [row["build"] for row in torch_builds("osx-arm64")] == [
        row["build"] for row in torch_builds("linux-64")
    ]


@pytest.mark.parametrize(
    ("build", "capability", "has"),
    [("cu130", "12.1", True), ("cu130", "13.0", False), ("cu129", "13.0", False), ("cu130", "10.7", True)],
)
def test_a_release_of_torch_has_no_ptx_for_newer_gpus(build: str, capability: str, has: bool) -> None:
    (row,) = (row for row in torch_builds("linux-64") if row["build"] == build)
    assert has_code_for(row, Gpu(index=0, compute_capability=capability)) is has


def test_every_error_of_nvml_that_is_distinguished_has_its_row() -> None:
    known = {row["state"] for row in table("states", "states")}
    assert set(_STATES.values()) <= known
    assert all(row["remedy"] for row in table("states", "states") if row["state"] not in ("ok", "overridden"))
    assert state_row("of a newer envpack")["state"] == "error"


def test_every_error_of_cuda_in_the_table_has_a_state_with_a_remedy() -> None:
    rows = table("states", "cuda_errors")
    assert all(state_row(row["state"])["state"] == row["state"] for row in rows)
    codes = [row["code"] for row in rows]
    assert codes == sorted(set(codes))


@pytest.mark.parametrize(
    ("code", "gpus", "state", "error"),
    [
        (0, 1, "ok", ""),
        (0, 0, "no-devices", "100 CUDA_ERROR_NO_DEVICE"),
        (803, 0, "libcuda-mismatch", "803 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        (12345, 0, "error", "12345"),
    ],
)
def test_the_result_of_cuinit_has_a_state(code: int, gpus: int, state: str, error: str) -> None:
    devices = tuple(Gpu(index) for index in range(gpus))
    assert judged(code, 12040, devices) == Probe(state, error, "12.4", devices)


def test_what_cuda_says_counts_where_it_starts_and_the_more_exact_state_where_it_does_not() -> None:
    gpu = Gpu(0, "NVIDIA H100")
    starts = Probe("ok", "", "12.4", (gpu,))
    found = Nvidia("fabric", "550.54.14", "12.4", source="nvml", devices=(Gpu(0, "as NVML says"),))
    assert with_probe(found, starts).state == "ok"
    assert with_probe(found, starts).devices == found.devices
    alone = with_probe(Nvidia("no-gpu"), starts)
    assert (alone.state, alone.source, alone.cuda, alone.devices) == ("ok", "cuda", "12.4", (gpu,))
    fails = Probe("cuda-unknown", "999 CUDA_ERROR_UNKNOWN")
    assert with_probe(found, fails).state == "fabric"
    assert with_probe(found, fails).problem == "cuInit: 999 CUDA_ERROR_UNKNOWN"
    assert with_probe(Nvidia("ok", error="1 A"), fails).problem == "NVML: 1 A, cuInit: 999 CUDA_ERROR_UNKNOWN"
    assert with_probe(found, None) == found


def test_old_gpus_have_a_last_driver() -> None:
    found = {text: (retired(text) or {}).get("driver") for text in ("3.7", "5.2", "7.0", "7.5", "9.0")}
    assert found == {"3.7": "470", "5.2": "580", "7.0": "580", "7.5": None, "9.0": None}


def test_distributions_by_glibc() -> None:
    assert distributions("2.28") == "RHEL 8 and Debian 10"
    assert distributions("2.29") == "Ubuntu 20.04 and Debian 11"
    assert distributions("2.42") == "Fedora 43 and Ubuntu 25.10"
    assert distributions("2.43") == "Ubuntu 26.04"
    assert distributions("9.9") == ""


@pytest.mark.parametrize(
    ("text", "parts"), [("570.124.06", (570, 124, 6)), ("5.15.0-113-generic", (5, 15, 0)), ("", ()), ("x1", ())]
)
def test_numbers_of_a_version(text: str, parts: tuple[int, ...]) -> None:
    assert numbers(text) == parts


def test_versions_compare_by_number_and_a_missing_part_is_a_zero() -> None:
    assert at_least("525.105.17", "525.60.13") and not at_least("525.60", "525.60.13")
    assert compare("12", "12.0") == 0 and compare("9.1", "10.0") == -1
    assert (major(""), major("12.6"), major_minor("12.6.3"), major_minor("12")) == (-1, 12, "12.6", "12.0")


@pytest.mark.parametrize(
    ("driver", "cuda", "native"),
    [
        ("550.54.14", "12.4", "12.4"),
        ("550.54.14", "12.8", "12.4"),  # cuda-compat is on the library path
        ("630.10", "13.6", "13.6"),
        ("540.4.0", "12.6", "12.6"),  # Jetson Orin
        ("", "11.4", "11.4"),
        ("", "", ""),
    ],
)
def test_what_libcuda_says_counts_where_the_branch_of_the_driver_is_not_known(
    driver: str, cuda: str, native: str
) -> None:
    assert diagnose(HostFacts(nvidia=Nvidia("ok", driver, cuda))).native == native
