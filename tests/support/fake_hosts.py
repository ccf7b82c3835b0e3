"""Hosts to check bundles on: NVML as the stub says it, files of /proc, /sys and /dev below a folder.

The stubs are C libraries under the names of NVIDIA's, so nvidia-ml-py and ctypes load them unmodified
(nvml_stub.c, cuda_stub.c).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpack.bundle.zipapp.runtime_zip import runtime_files
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.format.needs import Compiler, DetectedNeeds, Evidence, GpuCode
from support.bundle_factory import file, make_bundle
from support.compilers import compile_c

STUB = Path(__file__).with_name("nvml_stub.c")
CUDA_STUB = Path(__file__).with_name("cuda_stub.c")
CPUINFO = """\
processor\t: 0
model name\t: Example CPU
flags\t\t: fpu lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave

"""
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Nov  7 10:00:00 UTC 2024\nGCC version:  gcc 12\n"
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\n"
A_GPU = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}
ANOTHER_CARD = {
    "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:02:00.0/class": "0x020000\n",
}


def gpu(name: str, capability: str, mib: int, brand: int = 14, **marks: object) -> str:
    """Return a record of NVML_STUB_GPUS. ``brand``: NVML_BRAND_*: 2 tesla, 5 geforce, 8 vpc, 9 vcs, 14 nvidia."""
    keys = ("mig", "virtualization", "fabric", "licensed", "error")
    rest = [str(int(marks.get(key, 0))) for key in keys]  # type: ignore[call-overload]
    uuid = marks.get("uuid") or f"GPU-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return "|".join([name, str(uuid), capability, str(mib), str(brand), *rest])


K80 = gpu("Tesla K80", "3.7", 11441, 2)
P100 = gpu("Tesla P100-PCIE-16GB", "6.0", 16280, 2)
V100 = gpu("Tesla V100-SXM2-32GB", "7.0", 32510, 2)
T4 = gpu("Tesla T4", "7.5", 15360, 2)
A100 = gpu("NVIDIA A100-SXM4-80GB", "8.0", 81920)
A10G = gpu("NVIDIA A10G", "8.6", 22731)
RTX3090 = gpu("NVIDIA GeForce RTX 3090", "8.6", 24576, 5)
RTX5090 = gpu("NVIDIA GeForce RTX 5090", "12.0", 32607, 5)
H100 = gpu("NVIDIA H100 80GB HBM3", "9.0", 81559)
B300 = gpu("NVIDIA B300 SXM6", "10.3", 275040)


@dataclass(frozen=True)
class Host:
    """``utility``: NVML without CUDA, as a container has with the driver capability utility; ``compute``: CUDA
    without NVML, as a Jetson has; ``cuda_init``, ``cuda_gpus``: what cuInit returns, and the GPUs that CUDA has;
    ``driver``, ``cuda`` (12040 for 12.4), ``gpus``, ``slices`` and ``init``: what NVML says, None: there is no
    library; ``files``: below the host's root; ``environ``: what the user set; ``smi``: what nvidia-smi prints, by
    its first argument ("" for none)."""

    driver: str | None = None
    cuda: int = 0
    gpus: Sequence[str] = ()
    slices: Sequence[str] = ()
    init: int = 0
    library: bool = True
    old: bool = False
    utility: bool = False
    compute: bool = False
    cuda_init: str = "0"
    cuda_gpus: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    smi: Mapping[str, str] = field(default_factory=dict)

    def root(self, folder: Path) -> Path:
        """Write the host's files below ``folder``."""
        files = {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": "MemTotal:       65536000 kB\n",
            "proc/sys/kernel/osrelease": "6.1.0-28-amd64\n",
            "proc/sys/kernel/hostname": "node7\n",
            "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            **self.files,
        }
        for path, text in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return folder

    def environment(self, stubs: Path, folder: Path) -> dict[str, str]:
        """Return the variables of a process on this host; ``folder``: for its programs."""
        environ = {"PATH": str(folder), "HOME": str(folder), **self.environ}
        if self.smi:
            answers = "".join(f"  '{key}'*) cat <<'END'\n{text}END\n  ;;\n" for key, text in self.smi.items())
            program = folder / "nvidia-smi"
            program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\ncase ${{1-}} in\n{answers}esac\n")
            program.chmod(0o755)
        if not self.library:
            return environ
        kinds = {"utility": self.utility, "compute": self.compute, "old": self.old, "new": True}
        environ["LD_LIBRARY_PATH"] = str(stubs / next(name for name, is_this in kinds.items() if is_this))
        stub = {
            "CUDA_STUB_INIT": self.cuda_init,
            "CUDA_STUB_VERSION": str(self.cuda),
            "CUDA_STUB_GPUS": self.cuda_gpus,
            "NVML_STUB_INIT": str(self.init),
            "NVML_STUB_GPUS": ";".join(self.gpus),
            "NVML_STUB_SLICES": ";".join(self.slices),
        }
        if self.driver is not None:
            stub["NVML_STUB_DRIVER"] = self.driver
        if self.cuda:
            stub["NVML_STUB_CUDA"] = str(self.cuda)
        return {**environ, **stub}


def build_stubs(folder: Path) -> Path:
    """Compile the stubs, as they are today and as NVML was before R450, into ``folder``."""
    for name, flags in (("new", ()), ("old", ("-DOLD",)), ("utility", ()), ("compute", ())):
        (folder / name).mkdir(parents=True)
        options = ("-Wall", "-Werror", "-shared", "-fPIC", *flags)
        if name != "compute":
            compile_c(*options, "-o", folder / name / "libnvidia-ml.so.1", STUB)
        if name != "utility":
            compile_c(*options, "-o", folder / name / "libcuda.so.1", CUDA_STUB)
    return folder


TORCH = "lib/python3.11/site-packages/torch"


def torch(cuda: str, *numbers: int, jit: bool = True, ptxas: str = "", **fields: object) -> dict[str, Any]:
    """Return the manifest of an environment with a build of PyTorch; ``ptxas``: the CUDA version of triton's."""
    code = GpuCode(
        f"{TORCH}/lib/libtorch_cuda.so", "torch", tuple(f"sm_{number}" for number in numbers), main=True
    )
    needs = DetectedNeeds(
        cuda=Evidence(cuda, f"{TORCH}/version.py: cuda = '{cuda}'"),
        gpu_code=(code,),
        jit=(Compiler("triton", "pypi:triton-3.3.1", ptxas),) if jit else (),
        glibc=Evidence("2.17", f"{TORCH}/lib/libtorch_cuda.so"),
        cpu=Evidence("x86-64-v2", "conda's _x86_64-microarch-level"),
    )
    return {"needs": needs, "packages": (Package("pypi", "torch", "2.7.1", segment="environment"),), **fields}


CU118 = torch("11.8", 37, 50, 60, 70, 75, 80, 86, 90)
CU126 = torch("12.6", 50, 60, 70, 75, 80, 86, 90)
CU128 = torch("12.8", 70, 75, 80, 86, 90, 100, 120)
CU130 = torch("13.0", 75, 80, 86, 90, 100, 120)


def bundle_of(path: Path, content: Mapping[str, Any], *, complete: bool = False) -> Manifest:
    """Write a bundle.

    Args:
        path: The path of the bundle.
        content: Fields of its manifest.
        complete: Whether it has the real runtime, scripts and a Python, so that it can be deployed and activated.
    """
    segments = {"environment": [file("share/x", b"x")]}
    if complete:
        program = f"#!/bin/sh\nexec '{os.path.realpath(sys.executable)}' \"$@\"\n"
        own = [file(name, data, mode) for name, (data, mode) in sorted(runtime_files().items())]
        segments = {"runtime": own, "environment": [file("bin/python", program.encode(), 0o755)]}
    fields = {"name": "demo", "version": "1.0", **content}
    return make_bundle(path, segments, **fields)
