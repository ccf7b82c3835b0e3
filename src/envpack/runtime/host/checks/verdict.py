"""The result of comparing one requirement with one host."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from envpack.runtime.host.tables import NO_RULE, Rule
from envpack.runtime.report import human_size

OK, WARNING, FAILED, UNKNOWN = "ok", "warning", "failed", "unknown"

NEARLY = 0.93
"""The part of a required memory size from which too little memory is only a warning. Firmware, ECC and the kernel
use up to 7 % of the nominal size (an A10G of 24 GB shows 23.8 GB, a machine of 64 GiB about 62.7 GiB).
"""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one requirement.

    Attributes:
        requirement: The name of the requirement, such as "glibc".
        needed: The required value, in a few words.
        found: The value of the host, in a few words.
        verdict: "ok", "warning", "failed" or "unknown".
        says: Both values in a sentence.
        remedy: The action that solves the problem, "" when nothing needs to be done.
        evidence: The reason why the environment needs it.
        rule: The rule that decided.
        allowed: Whether the requirement failed and the user allows that.
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
        """Return sentence and remedy: "driver 470.57.02 found; ... needs >= 525.60.13: update the driver"."""
        return ": ".join(part for part in (self.says, self.remedy) if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {**asdict(self), "rule": self.rule.text, "source": self.rule.source, "message": self.message}


def size_verdict(name: str, noun: str, needed: int, found: int, remedy: str, evidence: str) -> Verdict:
    """Return a verdict on a size, of which a small part may be missing (`NEARLY`).

    Args:
        name: The name of the requirement.
        noun: The kind of memory, for messages: "of memory".
        needed: The required size in bytes.
        found: The size of the host in bytes, 0 when unknown.
        remedy: The remedy for a host that fails.
        evidence: The reason why the environment needs it.
    """
    wanted = human_size(needed)
    if not found:
        return Verdict(name, wanted, "unknown", UNKNOWN, f"the amount {noun} is not known", evidence=evidence)
    shown = human_size(found)
    if found >= needed:
        return Verdict(name, wanted, shown, OK, evidence=evidence)
    says = f"{shown} {noun} found; this bundle needs {wanted}"
    if found >= needed * NEARLY:
        rule = Rule("firmware, ECC or the kernel use up to 7 % of the nominal size")
        return Verdict(name, wanted, shown, WARNING, says, "", evidence, rule)
    return Verdict(name, wanted, shown, FAILED, says, remedy, evidence)
