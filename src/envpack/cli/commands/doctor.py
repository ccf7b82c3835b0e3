"""``envpack doctor``: what this host is, and what could run on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Probe, argument
from envpack.cli.terminal import Stream
from envpack.cli.text import escape, plural, wrap
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.host.doctor import Build, Diagnosis
    from envpack.runtime.host.facts import Gpu, HostFacts

_MARKS = {"yes": "32", "no": "2", "unknown": "36"}


def doctor(
    console: Console,
    path: Annotated[
        Path,
        argument(metavar="[PATH]", help="Show the free disk space of this directory. [default: the current one]"),
    ] = Path(),
    probe: Probe = False,
) -> Result:
    """Show facts of this host, and the PyTorch builds that run on it.

    The facts are the GPUs, the driver, the newest CUDA that it supports (natively, and by minor-version
    compatibility), glibc, CPU level, memory and disk. 'envpack check --host' reads the output of --json on another
    machine.

    \b
    Examples:
      envpack doctor
      envpack doctor /opt/envs
      envpack doctor --json > facts.json
      envpack doctor --probe
    """
    from envpack.runtime.host.detect.gather import gather
    from envpack.runtime.host.doctor import diagnose

    diagnosis = diagnose(gather(path, start_cuda=probe))
    return Result("doctor", diagnosis.as_dict(), lambda console: _show(console, diagnosis))


def _show(console: Console, diagnosis: Diagnosis) -> None:
    out, facts = console.out, diagnosis.facts
    system = [facts.distribution, f"{facts.system} {facts.kernel}", facts.subdir]
    out.write(out.style(escape(facts.hostname or "this host"), "1"))
    out.pairs([("system", ", ".join(part for part in system if part)), *_machine(facts)])
    out.write()
    out.write(out.style("NVIDIA", "1"))
    out.pairs(_nvidia(diagnosis))
    out.write()
    out.write(out.style("PyTorch", "1") + ": builds, and whether they run on this host")
    for build in diagnosis.torch:
        _torch(out, build)
    if console.verbose:
        out.write()
        out.write(out.style("rules", "1"))
        for rule in (*diagnosis.rules, *(build.rule for build in diagnosis.torch)):
            for text, first in ((rule.text, "  "), (rule.source, "    ")):
                for line in wrap(escape(text), out.width, indent="    ", first=first) if text else ():
                    out.write(line)


def _machine(facts: HostFacts) -> Iterator[tuple[str, str]]:
    level = f", {facts.cpu_level}" if facts.cpu_level else ""
    limits = {name: " (the cgroup's limit)" if name in facts.limited else "" for name in ("cpus", "memory")}
    yield "cpu", f"{facts.cpu or facts.machine}, {plural(facts.cpus, 'core')}{limits['cpus']}{level}"
    yield "memory", (human_size(facts.memory) if facts.memory else "unknown") + limits["memory"]
    yield "disk", f"{human_size(facts.disk_free)} free at {facts.disk_path}"
    yield "glibc", facts.glibc or "none"
    if facts.container or facts.wsl:
        yield "inside", " in ".join(part for part in (facts.container, "WSL" if facts.wsl else "") if part)
    if facts.amd:
        yield "AMD GPU", "ROCm's kernel driver is loaded"


def _nvidia(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    nvidia = diagnosis.facts.nvidia
    error = f" ({nvidia.problem})" if nvidia.problem else ", and CUDA starts" if nvidia.cuda_init else ""
    yield "state", diagnosis.gpu + error
    if diagnosis.remedy:
        yield "to do", diagnosis.remedy
    if nvidia.driver:
        yield "driver", nvidia.driver
    if diagnosis.native:
        runs = f"; code built with any {diagnosis.compatible} runs" if diagnosis.compatible.endswith("x") else ""
        yield "CUDA", f"{diagnosis.native} natively{runs}"
    if diagnosis.remark:
        yield "", diagnosis.remark
    for gpu in nvidia.devices:
        yield f"GPU {gpu.index}", _gpu(gpu)
        for part in gpu.slices:
            yield "", f"{part.name or 'MIG slice'}, {human_size(part.memory)}"
    if nvidia.visible_devices is not None:
        yield "visible", f"CUDA_VISIBLE_DEVICES={nvidia.visible_devices}"


def _gpu(gpu: Gpu) -> str:
    if gpu.error:
        return f"can't be used (NVML: {gpu.error})"
    parts = [gpu.name or "unknown"]
    if gpu.compute_capability:
        parts.append(f"compute capability {gpu.compute_capability}")
    if gpu.memory:
        parts.append(human_size(gpu.memory))
    marks = [(gpu.mig, "MIG"), (gpu.vgpu, "vGPU"), (gpu.licensed is False, "no licence")]
    marks += [(bool(gpu.fabric), f"fabric {gpu.fabric}"), (gpu.visible is False, "hidden from CUDA")]
    return ", ".join(parts + [text for applies, text in marks if applies])


def _torch(out: Stream, build: Build) -> None:
    why = f": {build.why}" if build.why else ""
    first = f"  {build.build:<5}  "
    lines = wrap(
        escape(f"{build.runs}, torch {build.torch}{why}"), out.width, indent=" " * len(first), first=first
    )
    out.write(lines[0].replace(build.runs, out.style(build.runs, _MARKS[build.runs]), 1))
    for rest in lines[1:]:
        out.write(rest)
    if build.runs != "no":
        out.write(out.style(f"         {build.pip}", "36"))
