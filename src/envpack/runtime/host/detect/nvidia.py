"""Detection of NVIDIA's driver and GPUs through NVML, then /proc, then nvidia-smi, and of the host's state.

CUDA itself is asked (cuInit) where a user wants it, and where there is a libcuda without NVML.

Each state has its own remedy (``data/states.json``), so the states are distinguished here.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Mapping

from envpack.runtime.host.detect import nvml
from envpack.runtime.host.detect.programs import ask
from envpack.runtime.host.detect.visible import with_visibility
from envpack.runtime.host.facts import Gpu, Nvidia
from envpack.runtime.host.versions import numbers
from envpack.runtime.parallel.resources import read_text

if TYPE_CHECKING:
    from envpack.runtime.host.detect.cuda_probe import Probe

_QUERY = "index,name,uuid,compute_cap,memory.total,mig.mode.current"
_PATIENCE = 20
"""Seconds to wait for nvidia-smi, which hangs with some broken drivers."""

_NO_CUDA = frozenset({"vapps", "vpc"})
"""Brands of vGPUs without CUDA: those of the A and B series."""


def read_nvidia(
    root: Path, environ: Mapping[str, str], *, container: str, wsl: bool, start_cuda: bool = False
) -> Nvidia:
    """Return the NVIDIA driver and GPUs of this host.

    Args:
        root: The folder that holds the host's /proc, /sys and /dev. Libraries and programs are always those of
            this process.
        environ: The environment variables; CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER, NVIDIA_VISIBLE_DEVICES,
            CONDA_OVERRIDE_CUDA and PATH are read.
        container: The kind of container, "" for none.
        wsl: Whether this is the Windows Subsystem for Linux.
        start_cuda: Whether to initialize CUDA too, in a child process.
    """
    found = _look(root, environ, container=container, wsl=wsl)
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    devices = with_visibility(found.devices, setting, environ.get("CUDA_DEVICE_ORDER", ""))
    found = replace(found, devices=devices, visible_devices=setting)
    if found.state == "ok":
        found = _with_cuda(root, found, container, wsl)
    if found.state == "ok":
        found = replace(found, state=_usable(root, found, container))
    elif found.state in ("container-without-gpu", "no-devices") and container and _kept_away(environ):
        found = replace(found, state="container-void")
    if (start_cuda or not found.source.startswith("nv")) and nvml.libcuda_version() is not None:
        from envpack.runtime.host.detect.cuda_probe import probe  # an activation does not initialize CUDA

        found = with_probe(found, probe(environ))
    return _overridden(found, environ.get("CONDA_OVERRIDE_CUDA"))


def with_probe(found: Nvidia, result: Probe | None) -> Nvidia:
    """Add the result of cuInit: where it succeeds, the GPUs can be used, whatever else was found. Pure."""
    if result is None:
        return found
    if result.state == "ok":
        return replace(
            found,
            state="ok",
            cuda=result.cuda or found.cuda,
            source=found.source if found.devices else "cuda",
            devices=found.devices or result.devices,
            cuda_init="0",
        )
    # a state that is known already has a more exact remedy than that of the error
    state = result.state if found.state == "ok" else found.state
    return replace(found, state=state, cuda=found.cuda or result.cuda, cuda_init=result.error)


def _with_cuda(root: Path, found: Nvidia, container: str, wsl: bool) -> Nvidia:
    """Add what CUDA needs beyond NVML: the libcuda of the driver and, in a container, /dev/nvidia-uvm.

    On the host itself nvidia-modprobe makes that file when a CUDA program starts; Jetsons have none (/dev/nvmap).
    WSL has /dev/dxg instead.
    """
    version = nvml.libcuda_version()
    if version is None:
        return replace(found, state="wsl-no-driver" if wsl else "no-libcuda")
    if wsl:  # the libcuda of Windows' driver has no version in its name
        return replace(found, state="wsl-linux-driver" if version else found.state, libcuda=version)
    devices = root / "dev"
    expected = container and (devices / "nvidiactl").exists() and not (devices / "nvmap").exists()
    missing = expected and not (devices / "nvidia-uvm").exists()
    return replace(found, state="no-uvm" if missing else found.state, libcuda=version)


def _kept_away(environ: Mapping[str, str]) -> bool:
    """Return whether the container toolkit was configured to give this container no GPU."""
    return environ.get("NVIDIA_VISIBLE_DEVICES", "").strip() in ("void", "none")


def _look(root: Path, environ: Mapping[str, str], *, container: str, wsl: bool) -> Nvidia:
    driver = kernel_module_version(read_text(root / "proc/driver/nvidia/version"))
    library = nvml.library_is_here()
    gpus = nvml.read_nvml() if library else None
    if gpus is not None and gpus.state in ("ok", "no-devices"):
        return replace(gpus, driver=gpus.driver or driver)
    if gpus is None:
        shown = _nvidia_smi(environ, wsl)
        if shown is not None:
            return replace(shown, driver=shown.driver or driver)
    if gpus is not None and gpus.state != "no-driver":
        state = gpus.state
        if state == "unknown-error" and container:
            state = "container-lost-gpu"
        elif state == "not-loaded" and wsl:  # WSL has no kernel module: this library is that of a Linux driver
            state = "wsl-linux-driver"
        elif state == "not-loaded" and driver:  # the module is loaded, and NVML misses the files in /dev
            state = "container-without-gpu" if container else "no-device-files"
        return replace(gpus, state=state, driver=driver)
    return Nvidia(
        state=_without_library(root, bool(driver), container=container, wsl=wsl),
        driver=driver,
        source="proc" if driver else "",
    )


def _without_library(root: Path, module: bool, *, container: str, wsl: bool) -> str:
    if wsl:
        return "wsl-no-driver" if (root / "dev/dxg").exists() else "no-gpu"
    if module and container:
        return "container-without-gpu"
    if module or has_device(root):
        return "no-driver"
    return "no-gpu"


def has_device(root: Path) -> bool:
    """Return whether there is an NVIDIA GPU: a device file, or a PCI display device of NVIDIA.

    The PCI vendor is 0x10de, the class of displays 03.
    """
    if (root / "dev/nvidia0").exists():
        return True
    try:
        devices = sorted((root / "sys/bus/pci/devices").iterdir())
    except OSError:
        return False
    return any(
        read_text(device / "vendor").strip() == "0x10de" and read_text(device / "class").startswith("0x03")
        for device in devices
    )


def kernel_module_version(text: str) -> str:
    """Return the driver's version from the text of /proc/driver/nvidia/version, "" when there is none.

    The text has two forms:
    ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu ...`` and, for the open modules,
    ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.91.07  Release Build ...``.
    """
    match = re.search(r"^NVRM version:.*?Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text + " ", re.MULTILINE)
    return match[1] if match else ""


def smi_versions(header: str) -> tuple[str, str]:
    """Return the driver and CUDA versions from the output of nvidia-smi, "" for what is not there.

    From R610 on the output says "CUDA UMD Version".
    """
    driver = re.search(r"Driver Version:\s*(\d+(?:\.\d+)+)", header)
    cuda = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", header)
    return (driver[1] if driver else ""), (cuda[1] if cuda else "")


def smi_devices(lines: str) -> tuple[Gpu, ...]:
    """Return the GPUs in the output of ``nvidia-smi --query-gpu``: CSV without header and units, memory in MiB."""
    devices = []
    for line in lines.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 6 or not cells[0].isdigit():
            continue
        index, name, uuid, capability, size, mig = cells
        devices.append(
            Gpu(
                int(index),
                name=name,
                uuid=uuid,
                compute_capability=capability if re.fullmatch(r"\d+\.\d+", capability) else "",
                memory=int(size) << 20 if size.isdigit() else 0,
                brand="geforce" if "GeForce" in name else "unknown",
                mig=mig == "Enabled",
            )
        )
    return tuple(devices)


def _nvidia_smi(environ: Mapping[str, str], wsl: bool) -> Nvidia | None:
    path = environ.get("PATH", os.defpath) + (":/usr/lib/wsl/lib" if wsl else "")
    program = shutil.which("nvidia-smi", path=path)
    header = _run(program) if program else ""
    driver, cuda = smi_versions(header)
    if program is None or not driver:
        return None
    devices = smi_devices(_run(program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"))
    state = "ok" if devices else "no-devices"
    return Nvidia(state=state, driver=driver, cuda=cuda, source="nvidia-smi", devices=devices)


def _run(*command: str) -> str:
    try:
        answer = ask(command, _PATIENCE)
    except OSError:
        return ""
    return answer.output if answer is not None and answer.status == 0 else ""


def _usable(root: Path, found: Nvidia, container: str) -> str:
    """Return the state of a host with a working driver: whether CUDA sees a GPU that it can start."""
    seen = [gpu for gpu in found.devices if gpu.visible is not False and not gpu.error]
    if not seen:
        return "hidden"
    if found.source == "nvml" and all(gpu.mig and not gpu.slices for gpu in seen):
        return "mig-empty"
    if all(gpu.brand in _NO_CUDA for gpu in seen):
        return "vgpu-no-cuda"
    # one GPU alone may be passed through to a virtual machine, where there is no fabric to wait for
    if len(found.devices) > 1 and any(gpu.fabric not in ("", "ready") and not gpu.mig for gpu in seen):
        return "fabric"
    return "fabric" if _fabric_manager_missing(root, seen, container) else "ok"


def _fabric_manager_missing(root: Path, seen: list[Gpu], container: str) -> bool:
    """Return whether there are NVSwitches and no fabric manager runs.

    Before Hopper, NVML does not report the state of the fabric. This is checked only on the host itself, because a
    container does not see the manager. GPUs in MIG mode do not need it.
    """
    if container or any(gpu.fabric or gpu.mig for gpu in seen):
        return False
    try:
        switches = any((root / "proc/driver/nvidia-nvswitch/devices").iterdir())
    except OSError:
        return False
    processes = (root / "proc").glob("[0-9]*/comm")
    # the kernel keeps 15 characters of nv-fabricmanager
    return switches and not any(read_text(comm).startswith("nv-fabricmanage") for comm in processes)


def _overridden(found: Nvidia, override: str | None) -> Nvidia:
    """Apply CONDA_OVERRIDE_CUDA as conda does: it is the CUDA version, and when empty there is no CUDA."""
    if override is None:
        return found
    version = override.strip()
    if not version:
        return replace(found, state="overridden-away", cuda="", overridden=True)
    if not numbers(version):
        return replace(found, state="override-unreadable", cuda="", overridden=True)
    usable = found.state == "ok"
    return replace(found, state="ok" if usable else "overridden", cuda=version, overridden=True)
