"""Detection of GPUs through NVML, with NVIDIA's nvidia-ml-py.

A function that the installed driver does not have yet means that the answer is unknown, never that something is
absent.
"""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from typing import Any, Callable, TypeVar

from envpack.runtime.fs.io import read_file
from envpack.runtime.host.facts import Gpu, Nvidia, Slice

T = TypeVar("T")

# NVML_BRAND_* of nvml.h in the words of NVIDIA_REQUIRE_CUDA
_BRANDS = {
    1: "quadro",
    2: "tesla",
    3: "nvs",
    4: "grid",
    5: "geforce",
    6: "titan",
    7: "vapps",
    8: "vpc",
    9: "vcs",
    10: "vws",
    11: "cloudgaming",
    12: "quadrortx",
    13: "nvidiartx",
    14: "nvidia",
    15: "geforcertx",
    16: "titanrtx",
}
_STATES = {4: "no-permission", 9: "not-loaded", 12: "no-driver", 15: "lost", 16: "reset-required"}
_STATES.update({18: "version-mismatch", 999: "unknown-error"})
"""The state for each nvmlReturn_t (nvml.h) that has its own remedy; "error" for all others."""

_VGPU = 2
"""NVML_GPU_VIRTUALIZATION_MODE_VGPU: the GPU is a vGPU in a guest system."""

_FABRIC = {1: "not started", 2: "in progress", 3: "ready"}
"""NVML_GPU_FABRIC_STATE_*; a GPU without a fabric has state 0."""


def library_is_here() -> bool:
    """Return whether the driver's library can be loaded.

    It comes with the driver. This is checked first because nvidia-ml-py is slow to import.
    """
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def libcuda_version() -> str | None:
    """Return the version of the libcuda.so.1 that CUDA programs load; "" when unknown, None when there is none.

    The name of the file that it links to ends with the version: libcuda.so.570.124.06.
    """
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    with suppress(OSError):
        match = re.search(rb"/libcuda\.so\.(\d{3,}\.\d+(?:\.\d+)*)$", read_file("/proc/self/maps"), re.MULTILINE)
        return match[1].decode("ascii") if match is not None else ""
    return ""


def read_nvml() -> Nvidia | None:
    """Return the driver, CUDA version and GPUs, or the state for NVML's error; None without nvidia-ml-py."""
    try:
        import pynvml  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as problem:
        return Nvidia(state=_STATES.get(problem.value, "error"), error=_said(problem), source="nvml")
    try:
        return _read(pynvml)
    except pynvml.NVMLError as problem:
        return Nvidia(state=_STATES.get(problem.value, "error"), error=_said(problem), source="nvml")
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _read(nvml: Any) -> Nvidia:
    ask = Asking(nvml)
    driver = ask(text(nvml.nvmlSystemGetDriverVersion), "")
    cuda = ask(nvml.nvmlSystemGetCudaDriverVersion_v2, 0) or ask(nvml.nvmlSystemGetCudaDriverVersion, 0)
    devices = tuple(_device(nvml, ask, index) for index in range(nvml.nvmlDeviceGetCount()))
    state, error = "ok" if devices else "no-devices", ""
    broken = [gpu for gpu in devices if gpu.error]
    if broken and len(broken) == len(devices):
        number = int(broken[0].error.split()[0])
        state, error = _STATES.get(number, "error"), broken[0].error
    return Nvidia(
        state=state,
        driver=driver,
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        source="nvml",
        error=error,
        devices=devices,
    )


class Asking:
    """Caller of NVML's functions that returns the default where NVML gives an error."""

    def __init__(self, nvml: Any) -> None:
        self._error = nvml.NVMLError

    def __call__(self, function: Callable[..., T], default: T, *arguments: Any) -> T:
        try:
            return function(*arguments)
        except self._error:
            return default


def text(function: Callable[..., Any]) -> Callable[..., str]:
    """Wrap a function of NVML so that it returns text: old versions of nvidia-ml-py return bytes."""

    def call(*arguments: Any) -> str:
        answer = function(*arguments)
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)

    return call


def _device(nvml: Any, ask: Asking, index: int) -> Gpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = text(nvml.nvmlDeviceGetName)(handle)
    except nvml.NVMLError as problem:
        return Gpu(index, error=_said(problem))
    capability = ask(nvml.nvmlDeviceGetCudaComputeCapability, (), handle)
    sizes = ask(nvml.nvmlDeviceGetMemoryInfo, None, handle)
    mig = bool(ask(nvml.nvmlDeviceGetMigMode, [0], handle)[0])
    vgpu = ask(nvml.nvmlDeviceGetVirtualizationMode, 0, handle) == _VGPU
    return Gpu(
        index,
        name=name,
        uuid=ask(text(nvml.nvmlDeviceGetUUID), "", handle),
        compute_capability=".".join(map(str, capability)),
        memory=int(sizes.total) if sizes is not None else 0,
        brand=_BRANDS.get(ask(nvml.nvmlDeviceGetBrand, 0, handle), "unknown"),
        mig=mig,
        slices=_slices(nvml, ask, handle) if mig else (),
        vgpu=vgpu,
        licensed=_licensed(nvml, ask, handle) if vgpu else None,
        fabric=_fabric(nvml, ask, handle),
    )


def _slices(nvml: Any, ask: Asking, handle: Any) -> tuple[Slice, ...]:
    found = []
    for index in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, 0, handle)):
        part = ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, None, handle, index)
        if part is None:  # there is no such instance: the numbers have gaps
            continue
        sizes = ask(nvml.nvmlDeviceGetMemoryInfo, None, part)
        found.append(
            Slice(
                name=ask(text(nvml.nvmlDeviceGetName), "", part),
                uuid=ask(text(nvml.nvmlDeviceGetUUID), "", part),
                memory=int(sizes.total) if sizes is not None else 0,
            )
        )
    return tuple(found)


def _licensed(nvml: Any, ask: Asking, handle: Any) -> bool | None:
    """Return whether a vGPU has its licence; None when the driver does not report it.

    CUDA stops on a vGPU without a licence.
    """
    features = ask(nvml.nvmlDeviceGetGridLicensableFeatures_v4, None, handle)
    if features is None or not features.isGridLicenseSupported:
        return None
    known = features.gridLicensableFeatures[: features.licensableFeaturesCount]
    return any(bool(feature.featureState) for feature in known)


def _fabric(nvml: Any, ask: Asking, handle: Any) -> str:
    """Return the state of the NVSwitch fabric, from Hopper on; "" when there is none or it is not reported."""
    kind = getattr(nvml, "c_nvmlGpuFabricInfo_v2_t", None)
    if kind is None:
        return ""
    info = kind()
    if ask(nvml.nvmlDeviceGetGpuFabricInfoV, None, handle, ctypes.byref(info)) is None:
        return ""
    return _FABRIC.get(info.state, "")


def _said(problem: Any) -> str:
    """Return the text of an NVMLError: "18 Driver/library version mismatch"."""
    return f"{problem.value} {problem}".rstrip(".")
