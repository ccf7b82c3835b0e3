"""The verdicts on an environment of wheels on some hosts, as text; the right ones are in tests/data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from envpack.runtime.format.needs import DetectedNeeds, GpuCode
from envpack.runtime.host.arch import capability, coverage
from envpack.runtime.host.checks.evaluate import evaluate
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.requirements import Requirements

EXPECTED = Path(__file__).parents[1] / "data/wheel_verdicts.txt"
SLIM = (
    "libgcc_s.so.1",
    "libgcc_s.so.1(GCC_12.0.0)",
    "libstdc++.so.6",
    "libstdc++.so.6(CXXABI_1.3.13)",
    "libstdc++.so.6(GLIBCXX_3.4.30)",
    "libz.so.1",
)
"""The libraries of the image debian:12-slim that wheels are linked to."""


def _host(name: str, capability: str, driver: str, cuda: str, brand: str = "nvidia") -> Nvidia:
    gpu = Gpu(0, name=name, compute_capability=capability, memory=80 << 30, brand=brand)
    return Nvidia("ok", driver=driver, cuda=cuda, libcuda=driver, source="nvml", devices=(gpu,))


HOSTS = {
    "V100, driver 525": _host("Tesla V100", "7.0", "525.60.13", "12.0", "tesla"),
    "H100, driver 535": _host("NVIDIA H100", "9.0", "535.129.03", "12.2"),
    "RTX 5090, driver 580": _host("NVIDIA GeForce RTX 5090", "12.0", "580.65.06", "13.0", "geforce"),
    "B300, driver 620": _host("NVIDIA B300", "10.3", "620.70.06", "13.5"),
}


def expected() -> dict[str, str]:
    """Return the right verdicts by the name of the environment."""
    blocks = re.split(r"^(?=[^ #\n])", EXPECTED.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {block.partition("\n")[0]: block.strip() for block in blocks}


def verdicts(name: str, needs: DetectedNeeds, machine: str, *, torch: bool) -> str:
    """Return the libraries that the host must have, the GPU code of each, and the verdicts on each host."""
    return "\n".join([name, *(f"    {line}" for line in _lines(needs, machine, torch))])


def _lines(needs: DetectedNeeds, machine: str, torch: bool) -> Iterator[str]:
    for library in needs.libraries:
        main = ", main" if library.main else ""
        text = f"needs {library.value} {' '.join(library.versions)}".rstrip()
        yield f"{text} ({_short(library.source)}{main})"
    for code in needs.gpu_code:
        kind = "main" if code.main else "add-on" if code.addon else "other"
        targets = " ".join((*code.sass, *code.ptx)) or "only few kernels"
        yield f"code {_short(code.library)} ({kind}): {targets}: {', '.join(_coverage(code))}"
    subdir = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[machine]
    wanted = Requirements("", subdir, needs=needs, torch=torch)
    shown: set[str] = set()
    for name, nvidia in HOSTS.items():
        facts = HostFacts(
            subdir=subdir,
            glibc="2.36",
            cpu_level="x86-64-v3",
            c_compiler="/usr/bin/gcc",
            libraries=SLIM,
            nvidia=nvidia,
        )
        found = evaluate(wanted, facts, deployed=True)
        counted = [f"{item.requirement} {item.verdict}" for item in found if item.requirement != "platform"]
        yield f"on {name}: {', '.join(counted)}"
        for item in found:
            line = f"    {item.verdict} {item.requirement}: {_short(item.message)}"
            if item.verdict != "ok" and line not in shown:
                shown.add(line)
                yield line


def _coverage(code: GpuCode) -> list[str]:
    """Return how the code runs on the GPU of each host, as `Coverage.how` says it."""
    ways = []
    for nvidia in HOSTS.values():
        device = capability(nvidia.devices[0].compute_capability)
        assert device is not None
        ways.append(coverage(code, device, nvidia.cuda).how)
    return ways


def _short(text: str) -> str:
    return text.replace("lib/python3.11/site-packages/", "")
