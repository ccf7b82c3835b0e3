"""Remedies for a driver that is too old and for a GPU that a library has no code for. No I/O."""

from __future__ import annotations

from typing import Iterator

from envpack.runtime.format.needs import GpuCode
from envpack.runtime.host.arch import Target, capability, runs_ptx, runs_sass, target_of
from envpack.runtime.host.facts import Gpu, HostFacts
from envpack.runtime.host.gpus import name_of, seen, sm
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import Row, driver_at_least, dropped, minimum_driver, retired, table
from envpack.runtime.host.versions import at_least, major, major_minor


def update_driver(facts: HostFacts, least: str = "") -> str:
    """Return the remedy to update the driver, which depends on where it is installed.

    ``least`` is the minimum version of the Linux driver, "" to name none.
    """
    if facts.wsl:
        return "update the NVIDIA driver in Windows"
    if least and facts.nvidia.driver and driver_at_least(facts.nvidia.driver, least):
        least = ""  # the driver is that new already
    where = " on the host" if facts.container else ""
    return f"update the driver{where}" + (f" to >= {least}" if least else "")


def driver_remedy(wanted: Requirements, facts: HostFacts, least: str) -> str:
    """Return the remedy for an old driver: a newer driver or GPU, or a build for this driver.

    Args:
        wanted: the requirements of the bundle.
        facts: the facts of the host.
        least: the oldest driver version that is new enough.
    """
    if facts.nvidia.overridden:
        return "unset CONDA_OVERRIDE_CUDA, or set it to the CUDA version that the driver supports"
    remedy = update_driver(facts)
    for gpu in seen(facts.nvidia):
        row = retired(gpu.compute_capability) if gpu.compute_capability else None
        if row is not None and least and major(least) > int(row["driver"]):
            remedy = f"use a newer GPU (R{row['driver']} is the last driver for {name_of(gpu)})"
    alternative = next(_builds_that_run(wanted, facts), "")
    return f"{remedy}, or {alternative}" if alternative else remedy


def _builds_that_run(wanted: Requirements, facts: HostFacts) -> Iterator[str]:
    """Return the builds that run with this driver as remedies, the newest first."""
    if wanted.torch:
        for build in reversed(torch_builds(facts.subdir)):
            if not build["cuda"]:
                continue
            needed = driver_for(build)
            if driver_runs(facts, build["cuda"]) and all(has_code_for(build, gpu) for gpu in seen(facts.nvidia)):
                yield f"rebuild with torch for {build['build']}" + (
                    "" if facts.wsl else f", which needs >= {needed}"
                )
        return
    for row in reversed(table("cuda", "minor_compatibility")):
        if driver_runs(facts, f"{row['major']}.0"):
            yield f"rebuild for CUDA {row['major']}" + ("" if facts.wsl else f", which needs >= {row['driver']}")


def driver_runs(facts: HostFacts, cuda: str) -> bool:
    """Return whether the driver runs code made with this CUDA version, as far as is known.

    The driver's version decides. Where that is one of Windows, overridden or unknown, the CUDA version that
    libcuda supports decides.
    """
    nvidia = facts.nvidia
    row = minimum_driver(cuda)
    if nvidia.cuda and (facts.wsl or nvidia.overridden or not nvidia.driver):
        return at_least(nvidia.cuda, cuda) or major(nvidia.cuda) == major(cuda) >= 11
    return bool(nvidia.driver) and row is not None and driver_at_least(nvidia.driver, row["driver"])


def torch_builds(subdir: str) -> list[Row]:
    """Return the builds of PyTorch for a platform (conda's subdir), the oldest first.

    For a platform without builds these are the builds for linux-64.
    """
    rows = table("torch", "builds")
    return [row for row in rows if subdir in row["subdirs"]] or [
        row for row in rows if "linux-64" in row["subdirs"]
    ]


def driver_for(build: Row) -> str:
    """Return the minimum driver for a build of PyTorch."""
    row = minimum_driver(build["cuda"])
    assert row is not None  # verified by tests/unit/runtime/host/test_host_tables.py
    return str(row["driver"])


def has_code_for(build: Row, gpu: Gpu) -> bool:
    """Return whether a build of PyTorch has code for this GPU; True when its compute capability is unknown."""
    device = capability(gpu.compute_capability)
    if device is None:
        return True
    kinds = ((build["sass"], runs_sass), (build["ptx"], runs_ptx))
    targets = [(target_of(name), runs) for names, runs in kinds for name in names]
    return any(target is not None and runs(target, device) for target, runs in targets)


def _targets(build: Row) -> Iterator[Target]:
    found = (target_of(name) for name in (*build["sass"], *build["ptx"]))
    return (target for target in found if target is not None)


def code_remedy(wanted: Requirements, facts: HostFacts, code: GpuCode, gpu: Gpu) -> str:
    """Return the remedy for a GPU that a library has no code for.

    Args:
        wanted: The requirements of the bundle.
        facts: The facts of the host.
        code: The GPU code of the library.
        gpu: The GPU without code.
    """
    if not (wanted.torch and "torch" in (code.package or code.library)):
        return _rebuild(wanted, code, gpu)
    present = major_minor(wanted.cuda.value) if wanted.cuda is not None else ""
    builds = [
        build
        for build in reversed(torch_builds(facts.subdir))
        if build["cuda"] and has_code_for(build, gpu) and build["cuda"] != present
    ]
    for build in builds:
        if driver_runs(facts, build["cuda"]):
            return f"rebuild with torch for {build['build']}, which has code for {sm(gpu)}"
    if builds:
        oldest = builds[-1]
        rebuild = f"rebuild with torch for {oldest['build']}, which has code for {sm(gpu)}"
        return f"{rebuild}, and {update_driver(facts, driver_for(oldest))}"
    device = capability(gpu.compute_capability)
    newest = max(target.version for build in torch_builds(facts.subdir) for target in _targets(build))
    if device is not None and device > newest:
        return f"rebuild with a newer torch: no build that this version of envpack knows has code for {sm(gpu)}"
    own = next((row for row in table("arch", "exact") if f"sm_{row['target']}" == sm(gpu)), None)
    if own is not None:
        return f"rebuild with NVIDIA's own torch for {own['why']}: pytorch.org has no build for {sm(gpu)}"
    return "use another GPU: no build of torch supports this one"


def _rebuild(wanted: Requirements, code: GpuCode, gpu: Gpu) -> str:
    """Return the remedy for a library of any package: an older CUDA if the GPU is too old for this one."""
    row = dropped(gpu.compute_capability)
    if row is not None and wanted.cuda is not None and major(wanted.cuda.value) >= major(row["cuda"]):
        last = major(row["cuda"]) - 1
        return f"rebuild for CUDA {last}, the last with code for {sm(gpu)} ({row['name']}), or use a newer GPU"
    what = package_name(code.package) or code.library
    return f"rebuild with another version of {what}, or with a build of it that has code for {sm(gpu)}"


def package_name(segment: str) -> str:
    """Return the name of a package without its kind, version and build: "onnx" of "pypi:onnx-1.0"."""
    kind, colon, rest = segment.partition(":")
    return rest.rsplit("-", 2 if kind == "conda" else 1)[0] if colon else kind
