"""Comparison of a bundle's requirements with a host's facts, with verdicts and remedies. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator

from envpack.runtime.host.checks.gpu import NEEDS_GPU, gpu_verdicts
from envpack.runtime.host.checks.verdict import FAILED, OK, REQUIREMENTS, UNKNOWN, WARNING, Verdict, size_verdict
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.requirements import STATED, Requirements
from envpack.runtime.host.tables import NO_RULE, Rule, cite, distributions, table
from envpack.runtime.host.versions import at_least
from envpack.runtime.report import human_size

GPU_MODES = ("required", "optional", "none")
"""The effect of a failed GPU check. ``required``: failure; ``optional``: warning; ``none``: not checked."""


_OLDEST_GLIBC = "2.17"
"""The oldest glibc that conda-forge and manylinux2014 build packages for."""


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
    verdicts = [*_system(wanted, facts)]
    if not deployed:
        verdicts += _disk(wanted, facts)
    if gpu != "none":
        of_gpus = gpu_verdicts(wanted, facts)
        verdicts += (_softened(verdict, facts) for verdict in of_gpus) if gpu == "optional" else of_gpus
    verdicts += [
        Verdict(
            name,
            needed=text,
            found="",
            verdict=UNKNOWN,
            says=f"this envpack does not know what the requirement {name}: {text} means",
            remedy="check with a newer envpack",
        )
        for name, text in wanted.unreadable.items()
    ]
    order = {name: position for position, name in enumerate(REQUIREMENTS)}
    return sorted(verdicts, key=lambda verdict: order.get(verdict.requirement, len(order)))


def _softened(verdict: Verdict, facts: HostFacts) -> Verdict:
    if verdict.verdict != FAILED:
        return verdict
    if verdict.requirement == "gpu":
        says = verdict.says.replace(NEEDS_GPU, "what is in this bundle for GPUs is of no use here")
        remedy = "" if facts.nvidia.state == "no-gpu" else verdict.remedy
        return replace(verdict, verdict=WARNING, says=says, remedy=remedy)
    return replace(verdict, verdict=WARNING)


def allowing(verdicts: Iterable[Verdict], allow: Iterable[str]) -> list[Verdict]:
    """Return the verdicts, with each failed one whose name is in ``allow`` changed to a warning."""
    names = set(allow)
    return [
        replace(verdict, verdict=WARNING, allowed=True)
        if verdict.verdict == FAILED and verdict.requirement in names
        else verdict
        for verdict in verdicts
    ]


def needs_gpu_facts(wanted: Requirements, gpu: str = "required") -> bool:
    """Return whether `evaluate` reads the facts about GPUs, which take the longest to collect."""
    return gpu != "none" and (wanted.gpu or wanted.needs.rocm is not None)


def _system(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    yield _platform(wanted, facts)
    stated = wanted.stated
    if "kernel" in stated:
        yield _version(
            "kernel", "Linux", str(stated["kernel"].minimum), facts.kernel, "use a host with a newer kernel"
        )
    yield from _glibc(wanted, facts)
    yield from _cpu(wanted, facts)
    if "cpus" in stated:
        yield _cpus(int(stated["cpus"].minimum), facts)
    if "memory" in stated:
        yield _memory(int(stated["memory"].minimum), facts)


def _platform(wanted: Requirements, facts: HostFacts) -> Verdict:
    fits = wanted.subdir in (facts.subdir, "noarch")
    return Verdict(
        "platform",
        needed=wanted.subdir,
        found=facts.subdir,
        verdict=OK if fits else FAILED,
        says="" if fits else f"the bundle is for {wanted.subdir}, and this host is {facts.subdir}",
        remedy="" if fits else f"build it for this host: 'platform: {facts.subdir}' in the spec",
        evidence="the packages' subdir",
    )


def _version(name: str, noun: str, needed: str, found: str, remedy: str) -> Verdict:
    if not found:
        return Verdict(name, f">= {needed}", "unknown", UNKNOWN, f"the version of {noun} is not known")
    if at_least(found, needed):
        return Verdict(name, f">= {needed}", found, OK, evidence=STATED)
    says = f"{noun} {found} found; this bundle needs >= {needed}"
    return Verdict(name, f">= {needed}", found, FAILED, says, remedy, evidence=STATED)


def _glibc(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("glibc")
    derived = wanted.needs.glibc
    if stated is None and derived is None:
        return
    needed = str(stated.minimum) if stated is not None else derived.value if derived is not None else ""
    evidence = STATED if stated is not None else derived.source if derived is not None else ""
    rule = Rule("what is linked with a glibc runs with it and newer ones", "glibc's symbol versions, GLIBC_x.y")
    if facts.glibc and at_least(facts.glibc, needed):
        yield Verdict("glibc", f">= {needed}", facts.glibc, OK, evidence=evidence, rule=rule)
        return
    newer = distributions(needed)
    remedy = (
        f"use a newer system ({newer} and later have it) or a container of one" if newer else "use a newer system"
    )
    if facts.glibc:
        says = f"glibc {facts.glibc} found; this bundle needs >= {needed}"
        if at_least(facts.glibc, _OLDEST_GLIBC):
            remedy += f', or rebuild with requires: {{glibc: "{facts.glibc}"}}'
    else:
        says = f"no glibc found (musl?); this bundle needs >= {needed}"
    yield Verdict("glibc", f">= {needed}", facts.glibc or "none", FAILED, says, remedy, evidence, rule)


def _cpu(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    derived = wanted.needs.cpu
    if derived is None:
        return
    levels = ["x86-64-v1", *(row["level"] for row in table("system", "levels"))]
    needed, found = derived.value, facts.cpu_level
    row = next((row for row in table("system", "levels") if row["level"] == needed), None)
    rule = cite("system", f"{needed} has {' '.join(row['flags'])}", row) if row else NO_RULE
    if needed not in levels or found not in levels:
        says = f"whether the processor {facts.cpu} is of level {needed} is not known".replace("  ", " ")
        yield Verdict("cpu", needed, found or "unknown", UNKNOWN, says, "", derived.source, rule)
    elif levels.index(found) >= levels.index(needed):
        yield Verdict("cpu", needed, found, OK, "", "", derived.source, rule)
    else:
        says = f"a processor of level {found} found; this bundle needs {needed}, and would end with SIGILL"
        since = f" ({row['since']})" if row else ""
        remedy = f"use a newer processor{since}, or rebuild without {derived.source.partition(' ')[0]}"
        yield Verdict("cpu", needed, found, FAILED, says, remedy, derived.source, rule)


def _cpus(needed: int, facts: HostFacts) -> Verdict:
    if not facts.cpus:
        return Verdict(
            "cpus", str(needed), "unknown", UNKNOWN, "the number of cores is not known", evidence=STATED
        )
    if facts.cpus >= needed:
        return Verdict("cpus", str(needed), str(facts.cpus), OK, evidence=STATED)
    says = f"{facts.cpus} usable {'core' if facts.cpus == 1 else 'cores'} found; this bundle needs {needed}"
    remedy = _larger("cpus", facts)
    return Verdict("cpus", str(needed), str(facts.cpus), FAILED, says, remedy, STATED)


def _memory(needed: int, facts: HostFacts) -> Verdict:
    return size_verdict("memory", "of memory", needed, facts.memory, _larger("memory", facts), STATED)


def _larger(what: str, facts: HostFacts) -> str:
    if what in facts.limited:
        return "raise the container's limit" if facts.container else "raise the limit of the cgroup"
    return "use a larger host"


def _disk(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("disk")
    needed = int(stated.minimum) if stated is not None else wanted.size
    if not needed or not facts.disk_path:
        return
    evidence = STATED if stated is not None else "the size of its files"
    shown = human_size(facts.disk_free)
    if facts.disk_free >= needed:
        yield Verdict("disk", human_size(needed), shown, OK, evidence=evidence)
        return
    says = f"{shown} free at {facts.disk_path}; this bundle needs {human_size(needed)}"
    remedy = "free some space, or deploy to another disk"
    yield Verdict("disk", human_size(needed), shown, FAILED, says, remedy, evidence)
