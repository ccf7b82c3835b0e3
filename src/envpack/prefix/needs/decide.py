"""The decision from all the evidence: which CUDA, which ROCm, or none; and the contradictions in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envpack.prefix.needs.evidence import CPU, CUDA, ROCM, Finding
from envpack.prefix.needs.rules import HINT, RUNTIME, USER, kind, rank
from envpack.runtime.format.needs import Evidence


@dataclass(frozen=True)
class Decision:
    """The result for one environment.

    Attributes:
        cuda: As in `DetectedNeeds`.
        rocm: As in `DetectedNeeds`.
        cuda_all: As in `DetectedNeeds`.
        cpu_builds: As in `DetectedNeeds`.
        users: The families that use that CUDA.
        contradictions: Sentences for the user.
        remarks: Sentences for the user.
    """

    cuda: Evidence | None = None
    rocm: Evidence | None = None
    cuda_all: tuple[Evidence, ...] = ()
    cpu_builds: tuple[Evidence, ...] = ()
    users: frozenset[str] = frozenset()
    contradictions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def decide(findings: Iterable[Finding]) -> Decision:
    """Decide which CUDA or ROCm an environment needs.

    The first piece of evidence in the order of rules.json decides; another one of the same major version that has
    the minor version makes it exact. The file in which a framework records its own build overrules other evidence
    of that framework: pip may have installed another build over conda's, and packages made for torch use the GPU
    only through torch.
    """
    ordered = sorted(dict.fromkeys(findings), key=lambda f: (rank(f.rule), f.source))
    stated: dict[str, Finding] = {}
    for finding in ordered:
        if finding.rule == "framework-file":
            stated.setdefault(finding.family, finding)
    overruled = [f for f in ordered if stated.get(f.family, f).platform != f.platform]
    live = [f for f in ordered if f not in overruled]
    runtimes = [f for f in live if kind(f.rule) == RUNTIME]
    majors = {f.major for f in runtimes}
    users = [
        f for f in live if f.platform == CUDA and kind(f.rule) == USER and (not f.optional or f.major in majors)
    ]
    rocm = next((f for f in live if f.platform == ROCM and not f.optional), None)
    refusals = [f for f in live if f.platform == CPU and f.family not in {user.family for user in users}]
    leader = users[0] if users else None
    if leader is None and runtimes and not refusals and rocm is None:
        leader = runtimes[0]
    return Decision(
        cuda=_evidence(_exact(leader, [*users, *runtimes])) if leader else None,
        rocm=_evidence(rocm) if rocm else None,
        cuda_all=tuple(_evidence(f) for f in ordered if f.platform == CUDA),
        cpu_builds=tuple({f.family: Evidence(f.family, f.source) for f in reversed(refusals)}.values()),
        users=frozenset(f.family for f in users if leader and f.major == leader.major),
        contradictions=tuple(_contradictions(leader, rocm, users, runtimes, overruled, stated)),
        remarks=_unused(leader, rocm, runtimes, refusals),
    )


def _evidence(finding: Finding) -> Evidence:
    return Evidence(finding.value, finding.source)


def _exact(leader: Finding, candidates: Sequence[Finding]) -> Finding:
    same = [f for f in (leader, *candidates) if f.major == leader.major]
    return next((f for f in same if "." in f.value), leader)


def _contradictions(
    leader: Finding | None,
    rocm: Finding | None,
    users: Sequence[Finding],
    runtimes: Sequence[Finding],
    overruled: Sequence[Finding],
    stated: dict[str, Finding],
) -> list[str]:
    warnings = []
    for family, truth in stated.items():
        wrong = [f for f in overruled if f.family == family and f.platform != CPU and kind(f.rule) != HINT]
        if wrong:
            warnings.append(f"{_made_for([truth])}, but also for {_named(wrong)}: they can't work together")
    if leader is None:
        return warnings
    if rocm is not None:
        warnings.append(f"{_made_for([leader])}, but also for {_named([rocm])}: no host has both")
    if kind(leader.rule) != USER:
        return warnings
    for major in dict.fromkeys(f.major for f in users if f.major != leader.major):
        others = [f for f in users if f.major == major]
        warnings.append(
            f"{_made_for([leader])}, but also for {_named(others)}: those need other libraries and drivers"
        )
    if runtimes and leader.major not in {f.major for f in runtimes}:
        warnings.append(f"{_made_for([leader])}, but the only CUDA runtime in it is {_named(runtimes[:1])}")
    return warnings


def _unused(
    leader: Finding | None, rocm: Finding | None, runtimes: Sequence[Finding], refusals: Sequence[Finding]
) -> tuple[str, ...]:
    if leader is not None or not runtimes or not (rocm or refusals):
        return ()
    return (f"{_made_for([rocm or refusals[0]])}: nothing in it uses the runtime for {_named(runtimes[:1])}",)


def _made_for(findings: Sequence[Finding]) -> str:
    return f"the environment is made for {_named(findings)}"


def _named(findings: Sequence[Finding]) -> str:
    """Describe findings in words: "CUDA 11 (pypi:cupy-cuda11x-13.0.0, and 1 more)"."""
    first = findings[0]
    names = {CUDA: f"CUDA {first.value}", ROCM: f"ROCm {first.value}".rstrip(), CPU: "CPUs only"}
    more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
    return f"{names[first.platform]} ({first.source}{more})"
