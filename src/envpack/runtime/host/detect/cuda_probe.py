"""Initialization of CUDA in a child process: whether cuInit succeeds, and which GPUs CUDA then has.

NVML may work where CUDA does not, and the other way round. A child process is used because cuInit can take long,
hang, or crash, and because it changes the state of the process that calls it.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Mapping, NamedTuple

from envpack.runtime.host.detect.programs import ask
from envpack.runtime.host.facts import Gpu
from envpack.runtime.host.tables import table

PATIENCE = 60
"""Seconds to wait for cuInit. On a host with eight GPUs and without persistence mode it takes up to half a minute:
https://docs.nvidia.com/deploy/driver-persistence/index.html, Background."""

NO_ANSWER, CRASHED = "cuda-no-answer", "error"
"""The states for a cuInit that does not return, and for one that ends the process."""

_NO_DEVICE = 100

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR is 75, ..._MINOR 76:
# https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
_PROGRAM = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
def call(function, *arguments):
    return hasattr(cuda, function) and getattr(cuda, function)(*arguments) == 0
def value(function, *arguments):
    number = ctypes.c_int()
    return number.value if call(function, ctypes.byref(number), *arguments) else 0
answer = {"code": cuda.cuInit(0), "cuda": value("cuDriverGetVersion"), "devices": []}
for index in range(value("cuDeviceGetCount") if answer["code"] == 0 else 0):
    size, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    device = value("cuDeviceGet", index)
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(size), device)
    capability = [value("cuDeviceGetAttribute", kind, device) for kind in (75, 76)]
    answer["devices"].append([name.value.decode("utf-8", "replace"), capability, size.value])
print(json.dumps(answer))
"""


class Probe(NamedTuple):
    """The result of cuInit.

    Attributes:
        state: "ok", or the state of ``data/states.json`` for its error.
        error: The error in words, such as "803 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"; "" for none.
        cuda: The newest CUDA that libcuda supports, "" when unknown.
        devices: The GPUs that CUDA has.
    """

    state: str
    error: str = ""
    cuda: str = ""
    devices: tuple[Gpu, ...] = ()


def probe(environ: Mapping[str, str], patience: float = PATIENCE) -> Probe | None:
    """Initialize CUDA in a child process; None where no child process can be run.

    Args:
        environ: The environment variables of the child process.
        patience: The time limit in seconds.
    """
    try:
        answer = ask([sys.executable, "-I", "-c", _PROGRAM], patience, environ)
    except OSError:
        return None
    if answer is None:
        return Probe(NO_ANSWER, f"no answer within {patience:g} seconds")
    if answer.status < 0:
        return Probe(CRASHED, f"ended by {signal.Signals(-answer.status).name}")
    try:
        found = json.loads(answer.output)
        devices = tuple(
            Gpu(index, name=name, compute_capability=f"{major}.{minor}" if major else "", memory=memory)
            for index, (name, (major, minor), memory) in enumerate(found["devices"])
        )
        return judged(int(found["code"]), int(found["cuda"]), devices)
    except (ValueError, KeyError, TypeError):
        return Probe(CRASHED, f"ended with status {answer.status}")


def judged(code: int, cuda: int, devices: tuple[Gpu, ...]) -> Probe:
    """Return what the results of cuInit and cuDriverGetVersion mean. Pure.

    Args:
        code: The CUresult of cuInit.
        cuda: The version of CUDA, 12040 for 12.4; 0 when unknown.
        devices: The GPUs that CUDA has.
    """
    version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""
    if code == 0 and not devices:
        code = _NO_DEVICE
    if code == 0:
        return Probe("ok", "", version, devices)
    row = next((row for row in table("states", "cuda_errors") if row["code"] == code), None)
    error = f"{code} {row['name'] if row is not None else ''}".rstrip()
    return Probe(str(row["state"]) if row is not None else "error", error, version)
