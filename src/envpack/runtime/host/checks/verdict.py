"""One requirement compared with one host."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from envpack.runtime.host.tables import NO_RULE, Rule
from envpack.runtime.report import human_size

OK, WARNING, FAILED, UNKNOWN = "ok", "warning", "failed", "unknown"

REQUIREMENTS = (
    "platform",
    "kernel",
    "glibc",
    "cpu",
    "cpus",
    "memory",
    "disk",
    "gpu",
    "driver",
    "cuda",
    "gpu_code",
    "compute_capability",
    "gpu_memory",
    "jit",
    "cuda_compat",
    "rocm",
)
"""Every requirement a verdict can be about, in the order they are shown; the names that can be allowed."""

NEARLY = 0.93
"""A memory of this part of what is needed is a warning only: firmware, ECC and the kernel keep up to 7 % of what a
card or a machine is sold as (an A10G of 24 GB shows 23.8 GB, a machine of 64 GiB about 62.7 GiB)."""


@dataclass(frozen=True)
class Verdict:
    """What came of one requirement.

    ``needed`` and ``found``: a few words each; ``verdict``: "ok", "warning", "failed" or "unknown"; ``says``: both
    in a sentence; ``remedy``: what to do, "" when nothing needs to be done; ``evidence``: why the environment
    needs it; ``rule``: what decided; ``allowed``: it failed, and may.
    """

    requirement: str
    needed: str
    found: str
    verdict: str
    says: str = ""
    remedy: str = ""
    evidence: str = ""
    rule: Rule = NO_RULE
    allowed: bool = False

    @property
    def message(self) -> str:
        """The sentence and the remedy: "driver 470.57.02 found; ... needs >= 525.60.13: update the driver"."""
        return ": ".join(part for part in (self.says, self.remedy) if part)

    def as_dict(self) -> dict[str, Any]:
        """JSON's view."""
        return {**asdict(self), "rule": self.rule.text, "source": self.rule.source, "message": self.message}


def size_verdict(name: str, noun: str, needed: int, found: int, remedy: str, evidence: str) -> Verdict:
    """A verdict on so many bytes, of which a little may be missing (`NEARLY`); ``found`` 0 is unknown."""
    wanted = human_size(needed)
    if not found:
        return Verdict(
            name, wanted, "unknown", UNKNOWN, f"how much {noun} there is is not known", evidence=evidence
        )
    shown = human_size(found)
    if found >= needed:
        return Verdict(name, wanted, shown, OK, evidence=evidence)
    says = f"{shown} {noun} found; this bundle needs {wanted}"
    if found >= needed * NEARLY:
        rule = Rule("up to 7 % of what is sold is kept by firmware, ECC or the kernel")
        return Verdict(name, wanted, shown, WARNING, says, "", evidence, rule)
    return Verdict(name, wanted, shown, FAILED, says, remedy, evidence)
