"""Collection of `HostFacts`: the only module that reads a whole host."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Iterable, Mapping

from envpack.runtime.host.detect import machine
from envpack.runtime.host.detect.libraries import read_libraries
from envpack.runtime.host.detect.nvidia import read_nvidia
from envpack.runtime.host.facts import HostFacts, Nvidia
from envpack.runtime.parallel import resources


def gather(
    destination: Path = Path(),
    *,
    environ: Mapping[str, str] | None = None,
    root: Path = Path("/"),
    gpu: bool = True,
    libraries: Mapping[str, Iterable[str]] | None = None,
    start_cuda: bool = False,
) -> HostFacts:
    """Return the facts of this host. Never raises: what can't be read is unknown.

    Args:
        destination: The path to measure free disk space at.
        environ: The environment variables, by default those of this process.
        root: The folder that holds the host's /proc, /sys, /dev and /etc.
        gpu: Whether to look for GPUs at all.
        libraries: The libraries to look for, each with the symbol versions needed of it; None for all.
        start_cuda: Whether to initialize CUDA, if there is one.
    """
    environ = os.environ if environ is None else environ
    cpuinfo = resources.read_text(root / "proc/cpuinfo")
    kernel = machine.kernel(root)
    wsl = machine.is_wsl(kernel)
    container = machine.container(root, environ)
    memory, memory_limited = resources.memory(root)
    cpus, cpus_limited = resources.cpus(root)
    disk_path, disk_free = machine.disk(destination)
    limits = (("cpus", cpus_limited), ("memory", memory_limited))
    return HostFacts(
        hostname=machine.hostname(root),
        system=platform.system(),
        machine=platform.machine(),
        subdir=machine.host_subdir(),
        kernel=kernel,
        distribution=machine.distribution(root),
        glibc=machine.glibc(environ),
        cpu=machine.cpu_model(cpuinfo),
        cpu_level=machine.cpu_level(cpuinfo),
        cpus=cpus,
        memory=memory,
        limited=tuple(name for name, limited in limits if limited),
        disk_path=disk_path,
        disk_free=disk_free,
        container=container,
        wsl=wsl,
        c_compiler=machine.c_compiler(environ),
        libraries=read_libraries(root, environ, libraries or {}) if libraries is None or libraries else None,
        amd=(root / "dev/kfd").exists(),
        nvidia=read_nvidia(root, environ, container=container, wsl=wsl, start_cuda=start_cuda)
        if gpu
        else Nvidia(),
    )
