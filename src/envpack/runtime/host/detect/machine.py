"""Detection of kernel, glibc, processor, disk and container. What can't be read is unknown.

Files are read below ``root``, so that a container can examine the host it runs on (``/host``).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Mapping

from envpack.runtime.host.tables import table
from envpack.runtime.parallel.resources import read_text

SUBDIRS = {
    ("Linux", "x86_64"): "linux-64",
    ("Linux", "aarch64"): "linux-aarch64",
    ("Linux", "ppc64le"): "linux-ppc64le",
    ("Darwin", "x86_64"): "osx-64",
    ("Darwin", "arm64"): "osx-arm64",
}
"""conda's subdir for each (kernel, machine) of uname(2). Source: conda/base/context.py."""


def host_subdir() -> str:
    """Return the conda subdir of this host, such as linux-64."""
    return SUBDIRS.get((platform.system(), platform.machine()), f"{platform.system()}-{platform.machine()}")


def c_compiler(environ: Mapping[str, str]) -> str:
    """Return the C compiler that triton finds: that of CC, else gcc or clang on PATH; "" for none.

    Source: triton/runtime/build.py.
    """
    path = environ.get("PATH", os.defpath)
    stated = environ.get("CC", "").strip()
    if stated:
        return stated if shutil.which(stated.split()[0], path=path) else ""
    return next((found for name in ("gcc", "clang") if (found := shutil.which(name, path=path))), "")


def glibc(environ: Mapping[str, str]) -> str:
    """Return the version of glibc; "" when the C library is another one.

    CONDA_OVERRIDE_GLIBC overrides it, as in conda.
    """
    if "CONDA_OVERRIDE_GLIBC" in environ:
        return environ["CONDA_OVERRIDE_GLIBC"].strip()
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        return ""
    return version if name == "glibc" else ""


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo."""
    return _field(cpuinfo, "model name") or _field(cpuinfo, "Model") or _field(cpuinfo, "Hardware")


def cpu_level(cpuinfo: str) -> str:
    """Return the x86-64 microarchitecture level by the flags in /proc/cpuinfo; "" for other processors."""
    flags = set(_field(cpuinfo, "flags").split())
    if "lm" not in flags:  # long mode: a processor of 64 bits
        return ""
    level = "x86-64-v1"
    for row in table("system", "levels"):
        if not flags.issuperset(row["flags"]):
            break
        level = row["level"]
    return level


def _field(text: str, name: str) -> str:
    match = re.search(rf"^{re.escape(name)}\s*:[ \t]*(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def disk(path: Path) -> tuple[str, int]:
    """Return the nearest existing folder at or above ``path`` and its free bytes, 0 when they can't be read."""
    place = Path(os.path.abspath(os.path.expanduser(path)))
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    try:
        return str(place), shutil.disk_usage(place).free
    except OSError:
        return str(place), 0


def distribution(root: Path) -> str:
    """Return the distribution's name from os-release, such as "Ubuntu 22.04.4 LTS"; "" when it is not stated."""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', read_text(root / "etc/os-release"), re.MULTILINE)
    return match[1].strip() if match else ""


def kernel(root: Path) -> str:
    """Return the release of the kernel, such as "5.15.0-113-generic"."""
    return read_text(root / "proc/sys/kernel/osrelease").strip() or platform.release()


def hostname(root: Path) -> str:
    """Return the host's own name."""
    return read_text(root / "proc/sys/kernel/hostname").strip() or platform.node()


def container(root: Path, environ: Mapping[str, str]) -> str:
    """Return the kind of container this process runs in, by the marks that engines leave; "" for none."""
    if (root / "run/.containerenv").exists():
        return "podman"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "singularity").exists() or environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_NAME"):
        return "apptainer"
    named = read_text(root / "run/systemd/container").strip() or environ.get("container", "")
    if named:
        return named
    groups = read_text(root / "proc/1/cgroup")
    return next((name for name in ("docker", "kubepods", "containerd", "lxc") if f"/{name}" in groups), "")


def is_wsl(kernel_release: str) -> bool:
    """Return whether this is the Windows Subsystem for Linux: the kernel is named ...-microsoft-standard-WSL2."""
    return "microsoft" in kernel_release.lower()
