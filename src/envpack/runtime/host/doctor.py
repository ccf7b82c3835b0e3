"""What this host can run, for a person who has no bundle yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envpack.runtime.host.checks.remedies import driver_for, driver_runs, has_code_for
from envpack.runtime.host.facts import HostFacts, facts_to_json
from envpack.runtime.host.gpus import compat_in_use, name_of, seen, sm
from envpack.runtime.host.tables import (
    Row,
    Rule,
    branch_cuda,
    cite,
    native_toolkit,
    newest_known_driver,
    state_row,
    table,
)
from envpack.runtime.host.versions import at_least, major, major_minor


@dataclass(frozen=True)
class Build:
    """A build of PyTorch. ``runs``: "yes", "no" or "unknown"; ``why``: the reason for the latter two, or what to
    mind; ``pip``: the line that installs it."""

    build: str
    cuda: str
    torch: str
    runs: str
    why: str
    pip: str
    rule: Rule


@dataclass(frozen=True)
class Diagnosis:
    """``gpu``: what the NVIDIA state means, and ``remedy`` for it; ``native``: the newest CUDA of which everything
    works, ``compatible``: the newest whose machine code runs (minor-version compatibility), each "" for none;
    ``remark``: what to mind about them; ``rules``: the rows used for both."""

    facts: HostFacts
    gpu: str
    remedy: str
    native: str
    compatible: str
    remark: str
    rules: tuple[Rule, ...]
    torch: tuple[Build, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.doctor/1``; ``facts`` is what ``--host`` reads."""
        return {
            "facts": facts_to_json(self.facts),
            "gpu": {"state": self.facts.nvidia.state, "says": self.gpu, "remedy": self.remedy},
            "cuda": {
                "native": self.native,
                "compatible": self.compatible,
                "remark": self.remark,
                "rules": [rule._asdict() for rule in self.rules],
            },
            "torch": [{**vars(build), "rule": build.rule._asdict()} for build in self.torch],
        }


def diagnose(facts: HostFacts) -> Diagnosis:
    """Everything that follows from a host's facts and the tables."""
    nvidia = facts.nvidia
    row = state_row(nvidia.state)
    native, compatible, rules = _cuda(nvidia.driver, nvidia.cuda if nvidia.overridden or facts.wsl else "")
    return Diagnosis(
        facts=facts,
        gpu=row["says"],
        remedy=row["remedy"] if nvidia.state not in ("ok", "no-gpu") else "",
        native=native,
        compatible=compatible,
        remark=_remark(facts),
        rules=rules,
        torch=tuple(_build(row, facts) for row in table("torch", "builds")),
    )


def _cuda(driver: str, libcuda: str) -> tuple[str, str, tuple[Rule, ...]]:
    """The newest CUDA natively and by minor-version compatibility, with the rows that say so. ``libcuda``: what it
    speaks, where the driver's version says nothing."""
    if libcuda:
        compatible = f"{major(libcuda)}.x" if major(libcuda) >= 11 else libcuda
        return libcuda, compatible, (Rule(f"libcuda speaks CUDA {libcuda}"),)
    toolkit = native_toolkit(driver) if driver else None
    if toolkit is None:
        return "", "", ()
    native = branch_cuda(driver) or major_minor(toolkit["cuda"])
    rules = [cite("cuda", f"CUDA {toolkit['cuda']} came with driver {toolkit['driver']}", toolkit)]
    compatible = native
    for row in table("cuda", "minor_compatibility"):
        if at_least(driver, row["driver"]):
            compatible = f"{row['major']}.x"
            rules[1:] = [cite("cuda", f"CUDA {row['major']}.x runs from {row['driver']} on", row)]
    return native, compatible, tuple(rules)


def _remark(facts: HostFacts) -> str:
    nvidia = facts.nvidia
    if nvidia.overridden:
        return "" if not nvidia.cuda else "as CONDA_OVERRIDE_CUDA says"
    if compat_in_use(nvidia):
        return f"libcuda speaks {nvidia.cuda}: cuda-compat stands before the driver's own"
    if nvidia.driver and major(nvidia.driver) > major(newest_known_driver()):
        return "the driver is newer than the tables here, so newer CUDA may run too"
    return ""


def _build(row: Row, facts: HostFacts) -> Build:
    runs, why = _runs(row, facts)
    rule = cite("torch", f"{row['build']} has {' '.join(row['sass']) or 'no GPU code'}", row)
    return Build(row["build"], row["cuda"], row["torch"], runs, why, row["pip"], rule)


def _runs(row: Row, facts: HostFacts) -> tuple[str, str]:
    """Whether a build runs here, and the reason."""
    if facts.subdir not in ("linux-64", "linux-aarch64") or (row["cuda"] and facts.subdir != "linux-64"):
        return "unknown", f"the table is of Linux x86_64, and this is {facts.subdir}"
    if not facts.glibc or not at_least(facts.glibc, row["glibc"]):
        return "no", f"needs glibc >= {row['glibc']}"
    if not row["cuda"]:
        return "yes", ""
    nvidia = facts.nvidia
    if nvidia.state not in ("ok", "overridden"):
        return "no", "no usable GPU"
    if not driver_runs(facts, row["cuda"]):
        by_version = nvidia.driver and not nvidia.overridden and not facts.wsl
        return "no", f"needs driver >= {driver_for(row)}" if by_version else f"needs CUDA {row['cuda']}"
    gpus = seen(nvidia)
    without = [gpu for gpu in gpus if not has_code_for(row, gpu)]
    if without and len(without) == len(gpus):
        return "no", f"no code for {sm(without[0])}"
    if without:
        return "yes", f"but not on {name_of(without[0])} ({sm(without[0])})"
    unknown = [gpu for gpu in gpus if not gpu.compute_capability]
    return ("unknown", f"the compute capability of {name_of(unknown[0])} is not known") if unknown else ("yes", "")
