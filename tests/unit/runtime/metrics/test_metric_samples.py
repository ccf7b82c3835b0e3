"""The samples of deployments, processes and GPUs, from values."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from envpack.runtime.deployment.listing import OK, UNREADABLE, DeploymentInfo
from envpack.runtime.deployment.record import Generation
from envpack.runtime.host.detect.gpu_usage import GpuProcess, GpuUsage
from envpack.runtime.metrics.families import FAMILIES, Sample
from envpack.runtime.metrics.processes import CURRENT, GONE, KEPT, Process
from envpack.runtime.metrics.samples import (
    CHECKS,
    MISSING,
    STATES,
    Deployed,
    deployment_samples,
    gpu_samples,
    process_samples,
)
from envpack.runtime.service.starts import Starts

LABELS = {family.name: family.labels for family in FAMILIES}


def values(samples: Iterable[Sample], family: str) -> dict[tuple[str, ...], float]:
    """Return the values of a family by their labels, after checking the labels of all."""
    found = {}
    for sample in samples:
        assert len(sample.labels) == len(LABELS[sample.family])
        if sample.family == family:
            assert sample.labels not in found
            found[sample.labels] = sample.value
    return found


def info(host: str = "passed", state: str = OK) -> DeploymentInfo:
    current = Generation(3, "demo", "1.2", "demo.tar.gz", "abc", 1000, True)
    return DeploymentInfo("/x", current, host, 5000, 0, (2, 1), state)


def test_what_is_deployed() -> None:
    samples = list(deployment_samples(Deployed("/x", info())))
    assert values(samples, "deployment_info") == {("/x", "demo", "1.2", "abc"): 1}
    assert values(samples, "deployment_generation") == {("/x",): 3}
    assert values(samples, "deployment_kept_generations") == {("/x",): 2}
    assert values(samples, "deployment_deployed_timestamp_seconds") == {("/x",): 1000}
    assert values(samples, "deployment_size_bytes") == {("/x",): 5000}


@pytest.mark.parametrize("state", STATES)
def test_one_state_is_1_and_the_others_are_0(state: str) -> None:
    there = None if state == MISSING else info(state=state)
    found = values(deployment_samples(Deployed("/x", there)), "deployment_state")
    assert found == {("/x", each): int(each == state) for each in STATES}


@pytest.mark.parametrize("there", [None, info(state=UNREADABLE)])
def test_of_what_can_not_be_read_only_the_state_is_known(there: DeploymentInfo | None) -> None:
    assert {sample.family for sample in deployment_samples(Deployed("/x", there))} == {"deployment_state"}


@pytest.mark.parametrize(
    ("host", "activated", "result", "time"),
    [
        ("passed", None, "passed", 1000),
        ("passed", 2000.5, "passed", 2000.5),
        ("allowed: cuda, glibc", None, "allowed", 1000),
        ("allowed: cuda", 2000, "allowed", 2000),  # an activation allows what the deployment did
        ("not checked", None, "not checked", None),
        ("not checked", 2000, "passed", 2000),
        ("", 2000, "passed", 2000),
        ("", None, None, None),
    ],
)
def test_the_last_check(host: str, activated: float | None, result: str | None, time: float | None) -> None:
    samples = list(deployment_samples(Deployed("/x", info(host), activated)))
    expected = {("/x", each): int(each == result) for each in CHECKS} if result else {}
    assert values(samples, "deployment_host_check") == expected
    assert values(samples, "deployment_host_check_timestamp_seconds") == ({("/x",): time} if time else {})


def test_starts_of_commands() -> None:
    starts = (Starts("serve", 4, 1500.25, 12.5), Starts("work", 1, None, None))
    samples = list(deployment_samples(Deployed("/x", info(), None, starts)))
    assert values(samples, "command_starts_total") == {("/x", "serve"): 4, ("/x", "work"): 1}
    assert values(samples, "command_last_start_timestamp_seconds") == {("/x", "serve"): 1500.25}
    assert values(samples, "command_ready_seconds") == {("/x", "serve"): 12.5}


def test_processes_are_counted_by_generation() -> None:
    processes = {
        1: Process("/x", CURRENT, 100, False),
        2: Process("/x", CURRENT, 50, True),
        3: Process("/x", KEPT, 7, False),
    }
    samples = list(process_samples(["/x", "/y"], processes))
    assert values(samples, "deployment_processes") == {
        ("/x", CURRENT): 2,
        ("/x", KEPT): 1,
        ("/x", GONE): 0,
        ("/y", CURRENT): 0,
        ("/y", KEPT): 0,
        ("/y", GONE): 0,
    }
    assert values(samples, "deployment_resident_memory_bytes")[("/x", CURRENT)] == 150


def test_gpus_and_who_uses_them() -> None:
    gpu = GpuUsage(
        0,
        uuid="GPU-a",
        name="H100",
        utilization=0.5,
        memory_used=10,
        memory_total=80,
        temperature=44,
        processes=(GpuProcess(1, 6), GpuProcess(2, 3), GpuProcess(3, None), GpuProcess(4, 9), GpuProcess(5, 1)),
    )
    processes = {
        1: Process("/x", CURRENT, 0, True),
        2: Process("/x", KEPT, 0, True),
        3: Process("/y", CURRENT, 0, True),
        4: Process("/y", CURRENT, 0, False),  # without CUDA: another process has this number where the driver is
    }
    samples = list(gpu_samples([gpu], processes))
    labels = ("GPU-a", "0", "H100")
    assert values(samples, "gpu_up") == {labels: 1}
    assert values(samples, "gpu_utilization_ratio") == {labels: 0.5}
    assert values(samples, "gpu_memory_used_bytes") == {labels: 10}
    assert values(samples, "gpu_memory_total_bytes") == {labels: 80}
    assert values(samples, "gpu_temperature_celsius") == {labels: 44}
    assert values(samples, "gpu_processes") == {labels: 5}
    assert values(samples, "deployment_gpu_processes") == {("/x", "GPU-a"): 2, ("/y", "GPU-a"): 1}
    assert values(samples, "deployment_gpu_memory_used_bytes") == {("/x", "GPU-a"): 9}


def test_what_the_driver_does_not_tell_is_absent() -> None:
    assert [sample.family for sample in gpu_samples([GpuUsage(0, up=False)], {})] == ["gpu_up"]
    assert list(gpu_samples([], {1: Process("/x", CURRENT, 0, True)})) == []
