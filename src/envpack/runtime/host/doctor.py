"""A report on what a host can run, before there is any bundle. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envpack.runtime.host.checks.remedies import driver_for, driver_runs, has_code_for, torch_builds
from envpack.runtime.host.facts import HostFacts, facts_to_json
from envpack.runtime.host.gpus import compat_in_use, name_of, seen, sm
from envpack.runtime.host.tables import (
    Row,
    Rule,
    branch_cuda,
    cite,
    driver_at_least,
    native_toolkit,
    newest_known_driver,
    state_row,
    table,
)
from envpack.runtime.host.versions import at_least, major, major_minor


@dataclass(frozen=True)
class Build:
    """A build of PyTorch and whether it runs on the host.

    Attributes:
        build: The name of the build, as in ``data/torch.json``.
        cuda: The CUDA version it is made with, "" for the CPU.
        torch: The versions of PyTorch, in words.
        runs: "yes", "no" or "unknown".
        why: The reason for "no" and "unknown", or a remark on "yes".
        pip: The command that installs it.
        rule: The row of the table.
    """

    build: str
    cuda: str
    torch: str
    runs: str
    why: str
    pip: str
    rule: Rule


@dataclass(frozen=True)
class Diagnosis:
    """The conclusions from a host's facts.

    Attributes:
        facts: The facts of the host.
        gpu: The meaning of the NVIDIA state.
        remedy: The remedy for that state, "" for none.
        native: The newest CUDA version that is fully supported, "" for none.
        compatible: The newest CUDA version with machine code that runs (minor-version compatibility), "" for none.
        remark: A remark on these two versions.
        rules: The rows that decided both.
        torch: The builds of PyTorch.
    """

    facts: HostFacts
    gpu: str
    remedy: str
    native: str
    compatible: str
    remark: str
    rules: tuple[Rule, ...]
    torch: tuple[Build, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.doctor/1`` as a JSON object.

        Its ``facts`` are what ``--host`` reads.
        """
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
    """Return everything that follows from a host's facts and the tables."""
    nvidia = facts.nvidia
    row = state_row(nvidia.state)
    by_version = bool(branch_cuda(nvidia.driver)) and not (nvidia.overridden or facts.wsl)
    native, compatible, rules = _cuda(nvidia.driver, "" if by_version else nvidia.cuda)
    return Diagnosis(
        facts=facts,
        gpu=row["says"],
        remedy=row["remedy"] if nvidia.state not in ("ok", "no-gpu") else "",
        native=native,
        compatible=compatible,
        remark=_remark(facts),
        rules=rules,
        torch=tuple(_build(row, facts) for row in torch_builds(facts.subdir)),
    )


def _cuda(driver: str, libcuda: str) -> tuple[str, str, tuple[Rule, ...]]:
    """Return the newest CUDA version natively and by minor-version compatibility, with the rows that decided.

    ``libcuda`` is the CUDA version that it supports, given where the driver's version does not decide, else "".
    """
    if libcuda:
        compatible = f"{major(libcuda)}.x" if major(libcuda) >= 11 else libcuda
        return libcuda, compatible, (Rule(f"libcuda supports CUDA {libcuda}"),)
    toolkit = native_toolkit(driver) if driver else None
    if toolkit is None:
        return "", "", ()
    native = branch_cuda(driver) or major_minor(toolkit["cuda"])
    rules = [cite("cuda", f"all of CUDA {toolkit['cuda']} works with driver >= {toolkit['driver']}", toolkit)]
    compatible = native
    for row in table("cuda", "minor_compatibility"):
        if driver_at_least(driver, row["driver"]):
            compatible = f"{row['major']}.x"
            rules[1:] = [cite("cuda", f"CUDA {row['major']}.x needs driver >= {row['driver']}", row)]
    return native, compatible, tuple(rules)


def _remark(facts: HostFacts) -> str:
    nvidia = facts.nvidia
    if nvidia.overridden:
        return "" if not nvidia.cuda else "set by CONDA_OVERRIDE_CUDA"
    if compat_in_use(nvidia):
        return f"libcuda supports CUDA {nvidia.cuda}: cuda-compat is used instead of the libcuda of the driver"
    if nvidia.driver and major(nvidia.driver) > major(newest_known_driver()):
        return "the driver is newer than the tables of envpack, so a newer CUDA may also run"
    return ""


def _build(row: Row, facts: HostFacts) -> Build:
    runs, why = _runs(row, facts)
    rule = cite("torch", f"{row['build']} has {' '.join(row['sass']) or 'no GPU code'}", row)
    return Build(row["build"], row["cuda"], row["torch"], runs, why, row["pip"], rule)


def _runs(row: Row, facts: HostFacts) -> tuple[str, str]:
    """Return whether a build runs on the host, and the reason."""
    if facts.subdir not in row["subdirs"]:
        return "unknown", f"only builds for Linux x86_64 and aarch64 are known, but this host is {facts.subdir}"
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
