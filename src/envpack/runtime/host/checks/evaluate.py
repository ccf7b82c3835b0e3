"""Comparison of a bundle's requirements with a host's facts, with verdicts and remedies. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable

from envpack.runtime.host.checks.check import GPU, SPACE
from envpack.runtime.host.checks.gpu import NEEDS_GPU, does_without, needs_nvidia
from envpack.runtime.host.checks.registry import CHECKS, REQUIREMENTS
from envpack.runtime.host.checks.verdict import FAILED, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.requirements import Requirements

GPU_MODES = ("required", "optional", "none")
"""The effect of a failed GPU check. ``required``: failure; ``optional``: warning; ``none``: not checked."""


def evaluate(
    wanted: Requirements, facts: HostFacts, *, gpu: str = "required", deployed: bool = False
) -> list[Verdict]:
    """Return a verdict on every requirement of a bundle, in the order of `REQUIREMENTS`.

    Args:
        wanted: The requirements of the bundle.
        facts: The facts of the host.
        gpu: One of `GPU_MODES`.
        deployed: Whether the bundle is deployed already; then free disk space is not checked.
    """
    verdicts = []
    without_gpu = does_without(wanted, facts)
    for check in CHECKS:
        if (check.scope == SPACE and deployed) or (check.scope == GPU and gpu == "none"):
            continue
        if without_gpu and "nvidia" in check.facts and check.name != "gpu":
            continue  # about the NVIDIA GPU that is not there
        softened = check.scope == GPU and gpu == "optional"
        verdicts += [
            _softened(verdict, facts) if softened else verdict for verdict in check.verdicts(wanted, facts)
        ]
    verdicts += [
        Verdict(
            name,
            needed=text,
            found="",
            verdict=UNKNOWN,
            says=f"this version of envpack does not know the requirement {name}: {text}",
            remedy="check with a newer version of envpack",
        )
        for name, text in wanted.unreadable.items()
    ]
    order = {name: position for position, name in enumerate(REQUIREMENTS)}
    return sorted(verdicts, key=lambda verdict: order.get(verdict.requirement, len(order)))


def _softened(verdict: Verdict, facts: HostFacts) -> Verdict:
    if verdict.verdict != FAILED:
        return verdict
    if verdict.requirement == "gpu":
        says = verdict.says.replace(NEEDS_GPU, "this bundle can't use GPUs on this host")
        remedy = "" if facts.nvidia.state == "no-gpu" else verdict.remedy
        return replace(verdict, verdict=WARNING, says=says, remedy=remedy)
    return replace(verdict, verdict=WARNING)


def allowing(verdicts: Iterable[Verdict], allow: Iterable[str]) -> list[Verdict]:
    """Return the verdicts, with each failed one that is named in ``allow`` changed to a warning."""
    names = set(allow)
    return [
        replace(verdict, verdict=WARNING, allowed=True)
        if verdict.verdict == FAILED and verdict.requirement in names
        else verdict
        for verdict in verdicts
    ]


def needs_gpu_facts(wanted: Requirements, gpu: str = "required") -> bool:
    """Return whether `evaluate` reads the facts about GPUs, which take the longest to collect."""
    return gpu != "none" and (needs_nvidia(wanted) or wanted.needs.rocm is not None)
