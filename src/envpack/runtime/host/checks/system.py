"""Checks of the operating system, the processor, memory and disk. No I/O."""

from __future__ import annotations

from typing import Iterator

from envpack.runtime.host.checks.check import SPACE, Check
from envpack.runtime.host.checks.verdict import FAILED, OK, UNKNOWN, Verdict, size_verdict
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.minimum import cores, size, version
from envpack.runtime.host.requirements import STATED, Requirements
from envpack.runtime.host.tables import NO_RULE, Rule, cite, distributions, table
from envpack.runtime.host.versions import at_least
from envpack.runtime.report import human_size

_OLDEST_GLIBC = "2.17"
"""The oldest glibc that conda-forge and manylinux2014 build packages for."""


def _platform(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    fits = wanted.subdir in (facts.subdir, "noarch")
    yield Verdict(
        "platform",
        needed=wanted.subdir,
        found=facts.subdir,
        verdict=OK if fits else FAILED,
        says="" if fits else f"the bundle is for {wanted.subdir}, but this host is {facts.subdir}",
        remedy="" if fits else f"build it for this host: 'platform: {facts.subdir}' in the spec",
        evidence="the packages' subdir",
    )


def _kernel(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("kernel")
    if stated is None:
        return
    needed, found = str(stated.minimum), facts.kernel
    if not found:
        yield Verdict("kernel", f">= {needed}", "unknown", UNKNOWN, "the version of Linux is not known")
    elif at_least(found, needed):
        yield Verdict("kernel", f">= {needed}", found, OK, evidence=STATED)
    else:
        says = f"Linux {found} found; this bundle needs >= {needed}"
        remedy = "use a host with a newer kernel"
        yield Verdict("kernel", f">= {needed}", found, FAILED, says, remedy, evidence=STATED)


def _glibc(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    if wanted.glibc is None:
        return
    needed, evidence = wanted.glibc.value, wanted.glibc.source
    rule = Rule(
        "programs linked with a version of glibc run with that version and newer ones",
        "glibc's symbol versions, GLIBC_x.y",
    )
    if facts.glibc and at_least(facts.glibc, needed):
        yield Verdict("glibc", f">= {needed}", facts.glibc, OK, evidence=evidence, rule=rule)
        return
    newer = distributions(needed)
    remedy = (
        f"use a newer system or a container of one (glibc {needed} is in {newer} and later)"
        if newer
        else "use a newer system"
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
        says = f"it is not known whether the processor {facts.cpu} has level {needed}".replace("  ", " ")
        yield Verdict("cpu", needed, found or "unknown", UNKNOWN, says, "", derived.source, rule)
    elif levels.index(found) >= levels.index(needed):
        yield Verdict("cpu", needed, found, OK, "", "", derived.source, rule)
    else:
        says = f"a processor of level {found} found; this bundle needs {needed} and would crash with SIGILL"
        since = f" ({row['since']})" if row else ""
        remedy = f"use a newer processor{since}, or rebuild without {derived.source.partition(' ')[0]}"
        yield Verdict("cpu", needed, found, FAILED, says, remedy, derived.source, rule)


def _cpus(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("cpus")
    if stated is None:
        return
    needed, found = int(stated.minimum), facts.cpus
    if not found:
        says = "the number of cores is not known"
        yield Verdict("cpus", str(needed), "unknown", UNKNOWN, says, evidence=STATED)
    elif found >= needed:
        yield Verdict("cpus", str(needed), str(found), OK, evidence=STATED)
    else:
        says = f"{found} usable {'core' if found == 1 else 'cores'} found; this bundle needs {needed}"
        yield Verdict("cpus", str(needed), str(found), FAILED, says, _larger("cpus", facts), STATED)


def _memory(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("memory")
    if stated is not None:
        least = int(stated.minimum)
        yield size_verdict("memory", "of memory", least, facts.memory, _larger("memory", facts), STATED)


def _larger(what: str, facts: HostFacts) -> str:
    if what in facts.limited:
        return "raise the container's limit" if facts.container else "raise the limit of the cgroup"
    return "use a larger host"


def _disk(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("disk")
    needed = max(int(stated.minimum) if stated is not None else 0, wanted.size)
    if not needed or not facts.disk_path:
        return
    evidence = STATED if needed > wanted.size else "the size of its files"
    shown = human_size(facts.disk_free)
    if facts.disk_free >= needed:
        yield Verdict("disk", human_size(needed), shown, OK, evidence=evidence)
        return
    says = f"{shown} free at {facts.disk_path}; this bundle needs {human_size(needed)}"
    remedy = "free some disk space, or deploy to another disk"
    yield Verdict("disk", human_size(needed), shown, FAILED, says, remedy, evidence)


_USABLE = "what this process may use, including CPU affinity and cgroup limits"

CHECKS = (
    Check("platform", _platform, "conda's subdir", facts=("subdir",)),
    Check(
        "kernel",
        _kernel,
        "the Linux release, if the spec states one",
        facts=("kernel",),
        form=version("the Linux release of the host", "4.18"),
    ),
    Check(
        "glibc",
        _glibc,
        "the version on the host; `CONDA_OVERRIDE_GLIBC` overrides it",
        needs=("glibc",),
        facts=("glibc",),
        form=version("the glibc of the host; given to the solver as `__glibc` (2.28 if not stated)", "2.28"),
    ),
    Check(
        "cpu",
        _cpu,
        "the x86-64 level, from the flags in `/proc/cpuinfo`; a program for a higher level ends with SIGILL",
        needs=("cpu",),
        facts=("cpu", "cpu_level"),
    ),
    Check("cpus", _cpus, _USABLE, facts=("cpus", "limited", "container"), form=cores("usable CPU cores", "16")),
    Check(
        "memory",
        _memory,
        _USABLE,
        facts=("memory", "limited", "container"),
        form=size("the memory of the host", "64 GB"),
    ),
    Check(
        "disk",
        _disk,
        "free space at the destination",
        facts=("disk_path", "disk_free"),
        form=size("free disk space at the destination", "40 GB"),
        scope=SPACE,
    ),
)
"""The checks that have nothing to do with GPUs, in display order."""
