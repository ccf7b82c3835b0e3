"""What the GPUs do at this moment, through NVML: utilisation, memory, temperature, and the processes on them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Iterator

from envpack.runtime.host.detect.nvml import Asking, library_is_here, text


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU.

    Attributes:
        pid: Its number, or that of one of its threads, as the driver states it: in a container, most drivers state
            the number on the host (https://github.com/NVIDIA/gpu-monitoring-tools/issues/63).
        memory: The bytes of GPU memory that it uses; None where the driver does not tell.
    """

    pid: int
    memory: int | None


@dataclass(frozen=True)
class GpuUsage:
    """The usage of one GPU, or of one MIG device of a GPU that is divided into such. None: it is not known.

    Attributes:
        index: The number of the GPU in NVML's list.
        uuid: The UUID of the GPU or MIG device; "" when the GPU can't be used.
        name: Its product name; "" when the GPU can't be used.
        up: Whether the driver can use it.
        utilization: The share of the last sampling period in which it was busy, 0 to 1; unknown for MIG devices.
        memory_used: Bytes.
        memory_total: Bytes.
        temperature: Degrees Celsius; unknown for MIG devices.
        processes: The processes on it.
    """

    index: int
    uuid: str = ""
    name: str = ""
    up: bool = True
    utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: int | None = None
    processes: tuple[GpuProcess, ...] | None = None


def read_gpu_usage() -> tuple[GpuUsage, ...]:
    """Return the usage of the GPUs in NVML's order; () without a GPU, a driver that works, or nvidia-ml-py."""
    if not library_is_here():
        return ()
    try:
        import pynvml  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        ask = Asking(pynvml)
        return tuple(each for index in range(pynvml.nvmlDeviceGetCount()) for each in _gpu(pynvml, ask, index))
    except pynvml.NVMLError:
        return ()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, ask: Asking, index: int) -> Iterator[GpuUsage]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError:
        yield GpuUsage(index, up=False)
        return
    if not ask(nvml.nvmlDeviceGetMigMode, [0], handle)[0]:
        yield _usage(nvml, ask, handle, index)
        return
    for number in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, 0, handle)):
        part = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, None, handle, number)
        if part is not None:  # the numbers have gaps
            yield _usage(nvml, ask, part, index)


def _usage(nvml: Any, ask: Asking, handle: Any, index: int) -> GpuUsage:
    rates = ask(nvml.nvmlDeviceGetUtilizationRates, None, handle)
    # version 2 does not count what the driver has reserved as used, as nvidia-smi; drivers before R510 have 1 only
    sizes = ask(nvml.nvmlDeviceGetMemoryInfo, None, handle, nvml.nvmlMemory_v2)
    sizes = sizes if sizes is not None else ask(nvml.nvmlDeviceGetMemoryInfo, None, handle)
    return GpuUsage(
        index,
        uuid=ask(text(nvml.nvmlDeviceGetUUID), "", handle),
        name=ask(text(nvml.nvmlDeviceGetName), "", handle),
        utilization=rates.gpu / 100 if rates is not None else None,
        memory_used=int(sizes.used) if sizes is not None else None,
        memory_total=int(sizes.total) if sizes is not None else None,
        temperature=ask(nvml.nvmlDeviceGetTemperature, None, handle, nvml.NVML_TEMPERATURE_GPU),
        processes=_processes(nvml, ask, handle),
    )


def _processes(nvml: Any, ask: Asking, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Return the processes on a device; R450 to R510 have only version 2 of the function, with the same answer."""
    for name in ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"):
        found = ask(getattr(nvml, name), None, handle)
        if found is not None:
            # in a container drivers say 0 where they do not know it, and any process on a GPU uses some:
            # https://github.com/NVIDIA/open-gpu-kernel-modules/pull/614
            return tuple(GpuProcess(int(each.pid), each.usedGpuMemory or None) for each in found)
    return None
