"""Situations on GPU hosts; the expected messages are in tests/data/host_situations.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envpack.runtime.format.needs import Compiler, DetectedNeeds, Evidence, GpuCode
from support.fake_hosts import (
    A10G,
    A100,
    A_GPU,
    ANOTHER_CARD,
    B300,
    CU118,
    CU126,
    CU128,
    CU130,
    H100,
    K80,
    MODULE,
    OPEN_MODULE,
    P100,
    RTX3090,
    RTX5090,
    T4,
    V100,
    Host,
    gpu,
    torch,
)


@dataclass(frozen=True)
class HostCase:
    """A host, what a bundle for it says of itself, how GPUs are asked for, and whether CUDA is started."""

    name: str
    host: Host
    bundle: Mapping[str, Any]
    gpu: str = "required"
    probe: bool = False


@dataclass(frozen=True)
class ExpectedAnswer:
    """The state of NVIDIA, and "verdict requirement: message" of each requirement that is not ok."""

    state: str
    lines: tuple[str, ...]


def expected_answers() -> dict[str, ExpectedAnswer]:
    """Return the expected messages, by the name of the case."""
    text = (Path(__file__).parents[1] / "data/host_situations.txt").read_text(encoding="utf-8")
    found = {}
    for block in re.split(r"^(?=[^ #\n])", text, flags=re.MULTILINE)[1:]:
        first, *lines = block.strip().splitlines()
        name, _, state = first.rpartition(" [")
        found[name] = ExpectedAnswer(state.rstrip("]"), tuple(line.strip() for line in lines))
    return found


WSL = {"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n", "dev/dxg": ""}
NVSWITCH = {"proc/driver/nvidia-nvswitch/devices/0000:c1:00.0": ""}
IN_CONTAINER = {".dockerenv": "", "proc/driver/nvidia/version": MODULE.format("535.129.03")}
A100_MIG = gpu("NVIDIA A100-SXM4-80GB", "8.0", 81920, mig=1)
SMALL_SLICE, LARGE_SLICE = (
    f"0|NVIDIA A100-SXM4-80GB MIG {name}|MIG-{mib}|{mib}" for name, mib in (("1g.10gb", 9728), ("3g.40gb", 40192))
)
THOR, ORIN = gpu("NVIDIA Thor", "11.0", 125772), gpu("Orin", "8.7", 30697)
THOR_CU130, ORIN_CU126 = torch("13.0", 80, 90, 100, 110, 120), torch("12.6", 87, jit=False)
ORIN_CU114 = torch("11.4", 87, jit=False)
ONE_H100, ONE_ORIN = "NVIDIA H100|9|0|81559", "Orin|8|7|30697"
COMPUTE = {**IN_CONTAINER, "dev/nvidiactl": "", "dev/nvidia0": "", "dev/nvidia-uvm": ""}
JETSON = {"dev/nvmap": "", "dev/nvhost-gpu": ""}
SMI_535 = "| NVIDIA-SMI 535.129.03   Driver Version: 535.129.03   CUDA Version: 12.2     |\n"
ASKS_40_GB = {**CU126, "requires": {"gpu_memory": "40 GB"}}
EXPRESSION = {**CU118, "requires": {"cuda": "cuda>=12.4 brand=tesla,driver>=470,driver<471"}}


def kernels(*isas: str) -> dict[str, Any]:
    """Return an environment with one library that has PTX of these ISAs for compute_80 and compute_100."""
    targets = ("compute_80", "compute_100")[: len(isas)]
    code = GpuCode("lib/libkernels.so", "kernels", ("sm_80",), targets, max(isas), main=True, ptx_isas=isas)
    return {"needs": DetectedNeeds(cuda=Evidence("12.6", "lib/libkernels.so"), gpu_code=(code,))}


COMPAT = {
    **CU126,
    "needs": replace(CU126["needs"], cuda_compat=(Evidence("570.124.06", "cuda-compat/libcuda.so.1"),)),
}
CUPY = {
    "needs": DetectedNeeds(cuda=Evidence("12.6", "cupy-cuda12x"), jit=(Compiler("cupy-cuda12x", "cupy-cuda12x"),)),
}


def numba(cuda: str) -> dict[str, Any]:
    """Return an environment that makes its GPU code at run time, as PTX."""
    needs = DetectedNeeds(
        cuda=Evidence(cuda, "cuda-version"), jit=(Compiler("numba", "conda:numba-0.61.0", ptx=True),)
    )
    return {"needs": needs}


ROCM = {"needs": DetectedNeeds(rocm=Evidence("6.4", "torch/version.py: hip = '6.4'"))}

HOST_CASES = [
    HostCase("driver new enough", Host("560.35.03", 12060, [A100]), CU118),
    HostCase("driver of minor-version compatibility", Host("535.129.03", 12020, [A100]), CU126),
    HostCase("driver too old", Host("470.57.02", 11040, [RTX3090]), CU126),
    HostCase("driver too old for everything", Host("440.33.01", 10020, [V100]), CU126),
    HostCase("driver one patch too old", Host("525.60.11", 12000, [A100]), CU126),
    HostCase("driver newer than the tables", Host("640.10.01", 14010, [H100]), CU130),
    HostCase(
        "a compiler newer than the driver", Host("535.129.03", 12020, [A100]), torch("12.1", 80, ptxas="12.4")
    ),
    HostCase(
        "a compiler of the next CUDA", Host("470.57.02", 11040, [A100]), torch("11.8", 80, ptxas="12.4", jit=True)
    ),
    HostCase("numba and an older driver", Host("535.129.03", 12020, [A100]), numba("12.6")),
    HostCase("numba, where PTX is the same", Host("555.42.02", 12050, [A100]), numba("12.6")),
    HostCase("numba and a CUDA newer than the tables", Host("640.10.01", 14000, [H100]), numba("14.2")),
    HostCase("CUDA newer than the tables", Host("640.10.01", 14010, [H100]), torch("14.0", 90)),
    HostCase("CUDA newer than the tables and the driver", Host("610.43.02", 13030, [H100]), torch("14.0", 90)),
    HostCase("CUDA newer than the tables, minor", Host("640.10.01", 14000, [H100]), torch("14.2", 90)),
    HostCase(
        "open kernel modules",
        Host(None, 13020, [H100], files={"proc/driver/nvidia/version": OPEN_MODULE.format("595.91.07")}),
        CU130,
    ),
    HostCase("old CUDA without compatibility", Host("396.37", 9020, [V100]), torch("10.0", 60, 70, jit=False)),
    HostCase("Kepler", Host("470.256.02", 11040, [K80]), CU126),
    HostCase("Kepler with cu118", Host("470.256.02", 11040, [K80]), CU118),
    HostCase("Volta and CUDA 13", Host("580.95.05", 13000, [V100]), CU130),
    HostCase("Pascal and cu128", Host("570.124.06", 12080, [P100]), CU128),
    HostCase("new GeForce, old build", Host("570.124.06", 12080, [RTX5090]), CU126),
    HostCase("new data-centre GPU, old build", Host("575.57.08", 12090, [B300]), CU126),
    HostCase("GPU of a higher minor", Host("580.95.05", 13000, [B300]), CU128),
    HostCase("Jetson Orin", Host("540.4.0", 12060, [gpu("Orin (nvgpu)", "8.7", 62000)]), CU126),
    HostCase("several kinds of GPUs", Host("570.124.06", 12080, [H100, P100]), CU128),
    HostCase(
        "one of several hidden",
        Host(
            "570.124.06",
            12080,
            [H100, P100],
            environ={"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        ),
        CU128,
    ),
    HostCase(
        "unlike GPUs by number", Host("560.35.03", 12060, [A100, T4], environ={"CUDA_VISIBLE_DEVICES": "0"}), CU126
    ),
    HostCase(
        "by UUID",
        Host(
            "560.35.03",
            12060,
            [gpu("NVIDIA L4", "8.9", 23034, uuid="GPU-aa1"), gpu("NVIDIA L4", "8.9", 23034, uuid="GPU-bb2")],
            environ={"CUDA_VISIBLE_DEVICES": "GPU-bb"},
        ),
        CU126,
    ),
    HostCase("all hidden", Host("560.35.03", 12060, [A100], environ={"CUDA_VISIBLE_DEVICES": ""}), CU126),
    HostCase("hidden by -1", Host("560.35.03", 12060, [A100], environ={"CUDA_VISIBLE_DEVICES": "-1"}), CU126),
    HostCase(
        "hidden by a number too high",
        Host("560.35.03", 12060, [A100], environ={"CUDA_VISIBLE_DEVICES": "3"}),
        CU126,
    ),
    HostCase("no GPU", Host(library=False, files=ANOTHER_CARD), CU126),
    HostCase("no GPU, but optional", Host(library=False), CU126, gpu="optional"),
    HostCase("no GPU, not asked for", Host(library=False), CU126, gpu="none"),
    HostCase("GPU without a driver", Host(library=False, files=A_GPU), CU126),
    HostCase("driver not loaded", Host(init=9, files=A_GPU), CU126),
    HostCase(
        "library and module differ",
        Host(init=18, files={"proc/driver/nvidia/version": MODULE.format("535.129.03")}),
        CU126,
    ),
    HostCase("no permission", Host(init=4, files=A_GPU), CU126),
    HostCase("GPU lost", Host("560.35.03", 12060, [gpu("", "", 0, error=15)]), CU126),
    HostCase("one of two GPUs lost", Host("560.35.03", 12060, [A100, gpu("", "", 0, error=15)]), CU126),
    HostCase("GPU needs a reset", Host(init=16), CU126),
    HostCase("container that lost its GPUs", Host(init=999, files=IN_CONTAINER), CU126),
    HostCase("unknown error", Host(init=999), CU126),
    HostCase("an error with no name here", Host(init=11), CU126),
    HostCase("container without GPUs", Host(library=False, files=IN_CONTAINER), CU126),
    HostCase("container with libraries, without devices", Host(init=9, files=IN_CONTAINER), CU126),
    HostCase(
        "NVIDIA_VISIBLE_DEVICES=void",
        Host(library=False, files=IN_CONTAINER, environ={"NVIDIA_VISIBLE_DEVICES": "void"}),
        CU126,
    ),
    HostCase(
        "NVIDIA_VISIBLE_DEVICES=none",
        Host("560.35.03", 12060, files=IN_CONTAINER, environ={"NVIDIA_VISIBLE_DEVICES": "none"}),
        CU126,
    ),
    HostCase(
        "files in /dev missing",
        Host(init=9, files={"proc/driver/nvidia/version": MODULE.format("535.129.03")}),
        CU126,
    ),
    HostCase("driver shows no GPU", Host("560.35.03", 12060), CU126),
    HostCase("driver too old, in a container", Host("470.57.02", 11040, [T4], files={".dockerenv": ""}), CU126),
    HostCase("WSL", Host("551.61", 12040, [RTX3090], files=WSL), CU126),
    HostCase("WSL with an old driver", Host("472.12", 11040, [RTX3090], files=WSL), CU126),
    HostCase("WSL without the libraries", Host(library=False, files=WSL), CU126),
    HostCase("MIG", Host("560.35.03", 12060, [A100_MIG], [SMALL_SLICE, LARGE_SLICE]), ASKS_40_GB),
    HostCase("MIG slices too small", Host("560.35.03", 12060, [A100_MIG], [SMALL_SLICE]), ASKS_40_GB),
    HostCase(
        "MIG, the small slice by UUID",
        Host(
            "560.35.03",
            12060,
            [A100_MIG],
            [SMALL_SLICE, LARGE_SLICE],
            environ={"CUDA_VISIBLE_DEVICES": "MIG-9728"},
        ),
        ASKS_40_GB,
    ),
    HostCase(
        "MIG, a slice that is gone",
        Host("560.35.03", 12060, [A100_MIG], [SMALL_SLICE], environ={"CUDA_VISIBLE_DEVICES": "MIG-40192"}),
        CU126,
    ),
    HostCase("MIG without an instance", Host("560.35.03", 12060, [A100_MIG]), CU126),
    HostCase(
        "vGPU of the C series",
        Host("560.35.03", 12060, [gpu("GRID A100-40C", "8.0", 40960, 9, virtualization=2, licensed=1)]),
        CU126,
    ),
    HostCase(
        "vGPU without a licence",
        Host("560.35.03", 12060, [gpu("GRID A100-40C", "8.0", 40960, 9, virtualization=2)]),
        CU126,
    ),
    HostCase(
        "vGPU without CUDA",
        Host("560.35.03", 12060, [gpu("GRID T4-2B", "7.5", 2048, 8, virtualization=2, licensed=1)]),
        CU126,
    ),
    HostCase(
        "fabric manager missing",
        Host("570.124.06", 12080, [gpu("NVIDIA H100 80GB HBM3", "9.0", 81559, fabric=2)] * 2),
        CU128,
    ),
    HostCase(
        "fabric not up, one GPU",
        Host("570.124.06", 12080, [gpu("NVIDIA H100 80GB HBM3", "9.0", 81559, fabric=2)]),
        CU128,
    ),
    HostCase(
        "fabric ready",
        Host("570.124.06", 12080, [gpu("NVIDIA H100 80GB HBM3", "9.0", 81559, fabric=3)] * 2),
        CU128,
    ),
    HostCase("fabric manager missing before Hopper", Host("560.35.03", 12060, [A100], files=NVSWITCH), CU126),
    HostCase(
        "fabric manager running before Hopper",
        Host("560.35.03", 12060, [A100], files={**NVSWITCH, "proc/4711/comm": "nv-fabricmanage\n"}),
        CU126,
    ),
    HostCase("cuda-compat on a data-centre GPU", Host("470.57.02", 12060, [A100]), CU126),
    HostCase("cuda-compat on GeForce", Host("470.57.02", 12060, [RTX3090]), CU126),
    HostCase("cuda-compat in the bundle", Host("560.35.03", 12060, [RTX3090]), COMPAT),
    HostCase("PTX only", Host("570.124.06", 12080, [H100]), kernels("8.5")),
    HostCase("PTX too new", Host("525.60.13", 12000, [H100]), kernels("8.5")),
    HostCase("PTX too new for later GPUs only", Host("525.60.13", 12000, [H100]), kernels("8.0", "8.5")),
    HostCase("PTX newer than the tables", Host("610.43.02", 13030, [H100]), kernels("9.9")),
    HostCase("old NVML", Host("440.33.01", 10020, [V100], old=True), torch("10.2", 60, 70, jit=False)),
    HostCase(
        "nvidia-smi alone",
        Host(
            compute=True,
            smi={
                "--query": "0, Tesla T4, GPU-1, 7.5, 15360, [N/A]\n",
                "": "| NVIDIA-SMI 535.129.03   Driver Version: 535.129.03   CUDA Version: 12.2     |\n",
            },
        ),
        CU118,
    ),
    HostCase(
        "nvidia-smi from R610 on",
        Host(
            compute=True,
            smi={
                "--query": "0, NVIDIA H100, GPU-1, 9.0, 81559, Disabled\n",
                "": "| NVIDIA-SMI 610.43.02   Driver Version: 610.43.02   CUDA UMD Version: 13.3  |\n",
            },
        ),
        CU130,
    ),
    HostCase("NVML without CUDA", Host("560.35.03", 12060, [A100], utility=True), CU126),
    HostCase(
        "a container without /dev/nvidia-uvm",
        Host("535.129.03", 12020, [A100], files={**IN_CONTAINER, "dev/nvidiactl": ""}),
        CU126,
    ),
    HostCase(
        "a container with /dev/nvidia-uvm",
        Host("535.129.03", 12020, [A100], files={**IN_CONTAINER, "dev/nvidiactl": "", "dev/nvidia-uvm": ""}),
        CU126,
    ),
    HostCase("libcuda of an older driver", Host("570.124.06", 12020, [H100]), CU126),
    HostCase("a driver without a number in its branch", Host("580.00", 13000, [THOR]), THOR_CU130),
    HostCase("a driver of Jetson that the table does not have", Host("540.4.0", 12060, [ORIN]), ORIN_CU126),
    HostCase("CONDA_OVERRIDE_CUDA", Host(library=False, environ={"CONDA_OVERRIDE_CUDA": "12.4"}), CU126),
    HostCase(
        "CONDA_OVERRIDE_CUDA too old",
        Host("560.35.03", 12060, [A100], environ={"CONDA_OVERRIDE_CUDA": "11.4"}),
        CU126,
    ),
    HostCase(
        "CONDA_OVERRIDE_CUDA empty", Host("560.35.03", 12060, [A100], environ={"CONDA_OVERRIDE_CUDA": ""}), CU126
    ),
    HostCase(
        "CONDA_OVERRIDE_CUDA of no version",
        Host("560.35.03", 12060, [A100], environ={"CONDA_OVERRIDE_CUDA": "yes"}),
        CU126,
    ),
    HostCase(
        "CONDA_OVERRIDE_GLIBC", Host("560.35.03", 12060, [A100], environ={"CONDA_OVERRIDE_GLIBC": "2.12"}), CU118
    ),
    HostCase(
        "a processor of a lower level",
        Host(library=False),
        {"needs": DetectedNeeds(cpu=Evidence("x86-64-v4", "lib/libx.so is marked so"))},
    ),
    HostCase(
        "glibc too old for a container's image",
        Host(library=False, environ={"CONDA_OVERRIDE_GLIBC": "2.26"}),
        {"needs": DetectedNeeds(glibc=Evidence("2.28", "lib/libx.so needs GLIBC_2.28"))},
    ),
    HostCase("stated driver", Host("525.60.13", 12000, [A100]), {**CU126, "requires": {"driver": ">=535"}}),
    HostCase(
        "stated driver that is too low",
        Host("470.57.02", 11040, [A100]),
        {**CU126, "requires": {"driver": "450.80.02"}},
    ),
    HostCase(
        "stated capability and memory",
        Host("560.35.03", 12060, [T4]),
        {**CU126, "requires": {"compute_capability": ">=8.0", "gpu_memory": "24 GB"}},
    ),
    HostCase(
        "a card sold as 24 GB", Host("560.35.03", 12060, [A10G]), {**CU126, "requires": {"gpu_memory": "24 GB"}}
    ),
    HostCase("an expression that holds", Host("470.57.02", 11040, [T4]), EXPRESSION),
    HostCase("an expression that does not", Host("470.57.02", 11040, [RTX3090]), EXPRESSION),
    HostCase("an environment without torch", Host("470.57.02", 11040, [T4]), CUPY),
    HostCase("ROCm", Host(library=False), ROCM),
    HostCase("ROCm with its driver", Host(library=False, files={"dev/kfd": ""}), ROCM),
    HostCase("CPU only", Host(library=False), {"needs": DetectedNeeds(glibc=Evidence("2.17", "bin/python3.11"))}),
    HostCase(
        "nvidia-smi without libcuda",
        Host(library=False, smi={"--query": "0, Tesla T4, GPU-1, 7.5, 15360, [N/A]\n", "": SMI_535}),
        CU118,
    ),
    HostCase(
        "WSL whose libraries the loader does not find",
        Host(
            library=False,
            files=WSL,
            smi={"--query": "0, NVIDIA GeForce RTX 3090, GPU-1, 8.6, 24576, [N/A]\n", "": SMI_535},
        ),
        CU118,
    ),
    HostCase("WSL with a Linux driver in it", Host(init=9, files=WSL), CU118),
    HostCase(
        "MIG without an instance, and CUDA",
        Host("560.35.03", 12060, [A100_MIG], cuda_init="100"),
        CU126,
        probe=True,
    ),
    HostCase(
        "a GPU newer than the tables, which CUDA starts",
        Host("700.10.01", 15010, [gpu("NVIDIA Next", "14.0", 200000)], cuda_gpus="NVIDIA Next|14|0|200000"),
        CU130,
        probe=True,
    ),
    HostCase(
        "a spec that states an older CUDA",
        Host("470.57.02", 11040, [A100]),
        {**CU126, "requires": {"cuda": "11.4", "driver": ">=450.80.02"}},
    ),
    HostCase(
        "a spec whose expression allows an older CUDA",
        Host("470.57.02", 11040, [A100]),
        {**CU126, "requires": {"cuda": "cuda>=11.0"}},
    ),
    HostCase(
        "CUDA without NVML, in a container",
        Host(compute=True, cuda=12020, cuda_gpus=ONE_H100, files=COMPUTE),
        CU126,
    ),
    HostCase(
        "an old Jetson, without NVML", Host(compute=True, cuda=11040, cuda_gpus=ONE_ORIN, files=JETSON), ORIN_CU114
    ),
    HostCase(
        "a Jetson whose CUDA is too old",
        Host(compute=True, cuda=11040, cuda_gpus=ONE_ORIN, files=JETSON),
        ORIN_CU126,
    ),
    HostCase("libcuda without NVML and GPU", Host(compute=True, cuda_init="100"), CU126),
    HostCase("CUDA starts", Host("560.35.03", 12060, [A100], cuda_gpus=ONE_H100), CU126, probe=True),
    HostCase(
        "CUDA starts in a container whose /dev is another",
        Host(
            "535.129.03",
            12020,
            [A100],
            cuda_gpus=ONE_H100,
            files={**IN_CONTAINER, "dev/nvidiactl": ""},
        ),
        CU126,
        probe=True,
    ),
    *(
        HostCase(
            f"CUDA does not start: {code}",
            Host("560.35.03", 12060, [A100], cuda_init=str(code)),
            CU126,
            probe=True,
        )
        for code in (2, 34, 46, 100, 304, 802, 803, 804, 805, 999, 719)
    ),
    HostCase("CUDA crashes", Host("560.35.03", 12060, [A100], cuda_init="crash"), CU126, probe=True),
    HostCase(
        "an error of CUDA whose reason is known",
        Host("535.129.03", 12020, [A100], cuda_init="999", files={**IN_CONTAINER, "dev/nvidiactl": ""}),
        CU126,
        probe=True,
    ),
]
