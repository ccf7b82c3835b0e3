"""The comparison of an environment that envpack did not deploy with a host, for `envpack check`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from envpack.prefix.inventory import read_prefix
from envpack.prefix.needs.derive import derive_needs
from envpack.runtime.commands.check import CheckReport, parse_policy
from envpack.runtime.host.checks.evaluate import allowing, evaluate, needs_gpu_facts
from envpack.runtime.host.checks.libraries import wanted_libraries
from envpack.runtime.host.checks.verdict import Verdict
from envpack.runtime.host.detect.gather import gather
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.report import Reporter


def examine_environment(
    prefix: Path,
    *,
    reporter: Reporter,
    facts: HostFacts | None = None,
    gpu: str | None = None,
    allow: Iterable[str] = (),
    start_cuda: bool = False,
) -> CheckReport:
    """Compare an environment with a host, by the needs that packing would find in it.

    Args:
        prefix: The environment's folder.
        reporter: Receives progress and warnings.
        facts: The facts of a host; None to gather those of this host.
        gpu: The GPU policy, as of `parse_policy`; None for "required".
        allow: The requirements that may fail, as of `parse_policy`.
        start_cuda: Whether to initialize CUDA on this host, if the environment needs it.

    Raises:
        PackError: The environment's metadata is broken.
        UsageError: ``gpu`` or ``allow`` has an unknown word.
    """
    policy = parse_policy(gpu or "required", allow)
    contents = read_prefix(prefix, outside="keep", editable="skip", reporter=reporter)
    needs = derive_needs(contents, reporter)
    packages = [group.package for group in contents.groups if group.package]
    subdirs = {package.subdir for package in packages if package.kind == "conda"} - {"noarch", ""}
    name = os.path.basename(os.path.abspath(prefix))
    wanted = Requirements(
        title=name,
        subdir=min(subdirs, default=host_subdir()),
        needs=needs,
        torch=any(package.name in ("torch", "pytorch") for package in packages),
        size=needs.disk,
    )
    mine = facts
    if mine is None:
        gpu_facts = needs_gpu_facts(wanted, policy.gpu)
        mine = gather(prefix, gpu=gpu_facts, libraries=wanted_libraries(wanted), start_cuda=start_cuda)
    verdicts = allowing(evaluate(wanted, mine, gpu=policy.gpu, deployed=True), policy.allow)
    host = mine.hostname if facts is not None else ""
    return CheckReport(str(prefix), name, "", host, policy.gpu, tuple(map(_reworded, verdicts)), "environment")


def _reworded(verdict: Verdict) -> Verdict:
    """Replace "bundle" in a verdict's texts by "environment"."""
    says, remedy = (
        text.replace("this bundle", "this environment").replace("the bundle", "the environment")
        for text in (verdict.says, verdict.remedy)
    )
    return replace(verdict, says=says, remedy=remedy)
