"""Questions about the GPUs in a host's facts that several checks share. No I/O."""

from __future__ import annotations

from typing import Sequence

from envpack.runtime.host.facts import Gpu, Nvidia
from envpack.runtime.host.tables import branch_cuda
from envpack.runtime.host.versions import compare, major, numbers

NO_DRIVER, NO_GPU = "no driver found", "no GPU found"
"""Reasons for an unknown verdict; the verdict on the GPU itself says what is wrong."""


def seen(nvidia: Nvidia) -> list[Gpu]:
    """Return the GPUs that work and that CUDA may see."""
    return [gpu for gpu in nvidia.devices if gpu.visible is not False and not gpu.error]


def unseen(nvidia: Nvidia) -> str:
    """Return the reason why the properties of the GPUs are not known."""
    gpus = seen(nvidia)
    return f"the properties of {name_of(gpus[0])} are not known" if gpus else NO_GPU


def name_of(gpu: Gpu) -> str:
    """Return the name of a GPU for messages."""
    return gpu.name or f"GPU {gpu.index}"


def sm(gpu: Gpu) -> str:
    """Return the compute capability of a GPU as a target: sm_86."""
    return f"sm_{gpu.compute_capability.replace('.', '')}"


def describe(gpus: Sequence[Gpu]) -> str:
    """Return a short description of GPUs: "2 x Tesla T4", "Tesla T4 and NVIDIA A100 in 2 MIG slices"."""
    counted: dict[str, int] = {}
    for gpu in gpus:
        text = name_of(gpu)
        if gpu.mig:
            text += f" in {len(gpu.slices)} MIG slice{'' if len(gpu.slices) == 1 else 's'}"
        counted[text] = counted.get(text, 0) + 1
    return " and ".join(f"{count} x {text}" if count > 1 else text for text, count in counted.items())


def only_these(gpus: Sequence[Gpu]) -> str:
    """Return the remedy for a host where only these GPUs meet the requirements."""
    numbers = ",".join(str(gpu.index) for gpu in gpus)
    return f"use only the GPUs that meet this: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={numbers}"


def driver_cuda(nvidia: Nvidia) -> str:
    """Return the CUDA version of the compiler in the driver; "" when unknown."""
    return nvidia.cuda or (branch_cuda(nvidia.driver) if nvidia.driver else "")


def is_geforce(gpu: Gpu) -> bool:
    """Return whether the GPU is of a kind that forward compatibility (cuda-compat) does not support."""
    return gpu.brand.startswith(("geforce", "titan")) or "GeForce" in gpu.name


def foreign_libcuda(nvidia: Nvidia) -> str:
    """Return the reason why libcuda does not fit the driver's kernel module (CUDA's error 803), "" if it does.

    It is older, as an image's own may be, or of another version of the same branch. A newer branch is that of
    cuda-compat.
    """
    own = branch_cuda(nvidia.driver) if nvidia.driver else ""
    if nvidia.overridden or not nvidia.driver:
        return ""
    known = nvidia.libcuda and any(numbers(nvidia.driver)[1:])
    other = known and compare(nvidia.libcuda, nvidia.driver) != 0
    if other and major(nvidia.libcuda) <= major(nvidia.driver):
        return f"libcuda is of driver {nvidia.libcuda}"
    if own and nvidia.cuda and compare(nvidia.cuda, own) < 0:
        return f"libcuda is that of an older driver (CUDA {nvidia.cuda}, where this driver has CUDA {own})"
    return ""


def compat_in_use(nvidia: Nvidia) -> bool:
    """Return whether the libcuda of cuda-compat is loaded: it supports a newer CUDA than the driver's branch."""
    own = branch_cuda(nvidia.driver) if nvidia.driver else ""
    return bool(own and nvidia.cuda and not nvidia.overridden and compare(nvidia.cuda, own) > 0)
