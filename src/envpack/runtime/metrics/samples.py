"""The samples of what was read: pure functions from values of deployments, processes and GPUs to samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Iterator, Mapping

from envpack.runtime.deployment.listing import OK, PREFIX_PENDING, UNREADABLE, UNTESTED, DeploymentInfo
from envpack.runtime.host.detect.gpu_usage import GpuUsage
from envpack.runtime.metrics.families import Sample
from envpack.runtime.metrics.processes import CURRENT, GONE, KEPT, Process
from envpack.runtime.service.starts import Starts

MISSING = "missing"
"""The state of a destination that is registered, or was asked for, and has no deployment."""

STATES = (OK, UNTESTED, PREFIX_PENDING, UNREADABLE, MISSING)
CHECKS = ("passed", "allowed", "not checked")


@dataclass(frozen=True)
class Deployed:
    """What was read of one destination.

    Attributes:
        path: Its path.
        info: What is deployed there; None when there is no deployment.
        checked: When a check of this host by an activation passed last, in seconds since 1970; None when none did.
        starts: The starts of its commands.
    """

    path: str
    info: DeploymentInfo | None
    checked: float | None = None
    starts: tuple[Starts, ...] = ()


def deployment_samples(deployed: Deployed) -> Iterator[Sample]:
    """Yield the samples of one destination; of one that is missing or can't be read only its state."""
    path, info = deployed.path, deployed.info
    state = MISSING if info is None else info.state
    for each in STATES:
        yield Sample("deployment_state", (path, each), int(each == state))
    if info is None or state == UNREADABLE:
        return
    current = info.current
    yield Sample("deployment_info", (path, current.name, current.version, current.manifest_sha256), 1)
    yield Sample("deployment_generation", (path,), current.generation)
    yield Sample("deployment_kept_generations", (path,), len(info.kept))
    yield Sample("deployment_deployed_timestamp_seconds", (path,), current.deployed)
    yield Sample("deployment_size_bytes", (path,), info.size)
    yield from _check_samples(path, info, deployed.checked)
    for starts in deployed.starts:
        yield from _start_samples(path, starts)


def _check_samples(path: str, info: DeploymentInfo, checked: float | None) -> Iterator[Sample]:
    """Yield the last check, which is that of an activation where one has passed since the deployment."""
    result = info.host.partition(":")[0]
    if checked is not None and result != "allowed":
        result = "passed"
    if not result:  # plain tar unpacked it, and it has not been activated
        return
    for each in CHECKS:
        yield Sample("deployment_host_check", (path, each), int(each == result))
    if result != "not checked":
        time = info.current.deployed if checked is None else checked
        yield Sample("deployment_host_check_timestamp_seconds", (path,), time)


def _start_samples(path: str, starts: Starts) -> Iterator[Sample]:
    labels = (path, starts.command)
    yield from _known("command_starts_total", labels, starts.count)
    yield from _known("command_last_start_timestamp_seconds", labels, starts.last)
    yield from _known("command_ready_seconds", labels, starts.ready)


def process_samples(paths: Iterable[str], processes: Mapping[int, Process]) -> Iterator[Sample]:
    """Yield the number and the memory of the processes of each deployment, 0 where there are none.

    Args:
        paths: The paths of the deployments.
        processes: The processes by their number.
    """
    for path in paths:
        for generation in (CURRENT, KEPT, GONE):
            key = path, generation
            own = [process for process in processes.values() if (process.path, process.generation) == key]
            yield Sample("deployment_processes", (path, generation), len(own))
            resident = sum(process.resident for process in own)
            yield Sample("deployment_resident_memory_bytes", (path, generation), resident)


def gpu_samples(gpus: Iterable[GpuUsage], processes: Mapping[int, Process]) -> Iterator[Sample]:
    """Yield the samples of each GPU, and of the deployments whose processes use it.

    The driver may state the number that a process has outside the container that this is. Therefore a process
    counts for a deployment only if it has loaded CUDA, too.

    Args:
        gpus: The GPUs.
        processes: The processes of the deployments by their number.
    """
    for gpu in gpus:
        labels = (gpu.uuid, str(gpu.index), gpu.name)
        yield Sample("gpu_up", labels, int(gpu.up))
        yield from _known("gpu_utilization_ratio", labels, gpu.utilization)
        yield from _known("gpu_memory_used_bytes", labels, gpu.memory_used)
        yield from _known("gpu_memory_total_bytes", labels, gpu.memory_total)
        yield from _known("gpu_temperature_celsius", labels, gpu.temperature)
        if gpu.processes is None:
            continue
        yield Sample("gpu_processes", labels, len({each.pid for each in gpu.processes}))
        count: dict[str, set[int]] = {}
        memory: dict[str, int] = {}
        for each in gpu.processes:
            process = processes.get(each.pid)
            if process is None or not process.cuda:
                continue
            count.setdefault(process.path, set()).add(each.pid)
            if each.memory is not None:
                memory[process.path] = memory.get(process.path, 0) + each.memory
        for path, pids in count.items():
            yield Sample("deployment_gpu_processes", (path, gpu.uuid), len(pids))
        for path, used in memory.items():
            yield Sample("deployment_gpu_memory_used_bytes", (path, gpu.uuid), used)


def _known(family: str, labels: tuple[str, ...], value: int | float | None) -> Iterator[Sample]:
    if value is not None:
        yield Sample(family, labels, value)
