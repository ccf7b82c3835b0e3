"""Contradictions between what the spec requires of a host and what was found in the environment."""

from __future__ import annotations

from collections.abc import Mapping

from envpack.runtime.format.needs import DetectedNeeds
from envpack.runtime.host.arch import capability, coverage
from envpack.runtime.host.checks.registry import parse_need
from envpack.runtime.host.minimum import Minimum
from envpack.runtime.host.tables import minimum_driver
from envpack.runtime.host.versions import at_least, major
from envpack.runtime.report import human_size


def contradictions(requires: Mapping[str, str], needs: DetectedNeeds) -> list[str]:
    """Return a sentence for each requirement that contradicts the environment.

    A requirement does so when a host can meet it and still not run the environment, or when it makes no sense for
    the environment. One that asks for more than the environment needs is no contradiction.

    Args:
        requires: Texts by name, as in `Requires.as_dict`. Ones that can't be parsed are ignored: the reader of the
            spec reports them.
        needs: The needs found in the environment.
    """
    stated = {name: need for name, text in requires.items() if (need := _parsed(name, text))}
    return [
        *_cuda(stated.get("cuda"), needs),
        *_driver(stated.get("driver"), needs),
        *_capability(stated.get("compute_capability"), needs),
        *_glibc(stated.get("glibc"), needs),
        *_disk(stated.get("disk"), needs),
    ]


def _parsed(name: str, text: str) -> Minimum | None:
    try:
        return parse_need(name, text)
    except (KeyError, ValueError):
        return None


def _cuda(stated: Minimum | None, needs: DetectedNeeds) -> list[str]:
    if stated is None:
        return []
    if needs.cuda is None:
        found = needs.rocm or next(iter(needs.cpu_builds), None)
        if found is None:
            return []
        what = "is for ROCm" if needs.rocm else "is a build for CPUs only"
        return [f"requires cuda is {stated.text}, but the environment {what}: {found.source}"]
    if major(str(stated.minimum)) >= major(needs.cuda.value):
        return []  # within a major version the older driver runs it, by minor-version compatibility
    return [
        f"requires cuda is {stated.text}, but the environment is for CUDA {needs.cuda.value}, which drivers for "
        f"CUDA {stated.minimum} do not support: {needs.cuda.source}"
    ]


def _driver(stated: Minimum | None, needs: DetectedNeeds) -> list[str]:
    row = minimum_driver(needs.cuda.value) if needs.cuda else None
    if stated is None or needs.cuda is None or row is None or at_least(str(stated.minimum), row["driver"]):
        return []
    return [
        f"requires driver is {stated.text}, but CUDA {needs.cuda.value} needs driver {row['driver']} or later: "
        f"{needs.cuda.source}"
    ]


def _capability(stated: Minimum | None, needs: DetectedNeeds) -> list[str]:
    device = capability(str(stated.minimum)) if stated else None
    if stated is None or device is None:
        return []
    return [
        f"requires compute_capability is {stated.text}, but {code.library} has no code for {stated.minimum}: "
        f"{' '.join((*code.sass, *code.ptx))}"
        for code in needs.gpu_code
        if code.main and coverage(code, device, "").how == "none"
    ]


def _glibc(stated: Minimum | None, needs: DetectedNeeds) -> list[str]:
    if stated is None or needs.glibc is None or at_least(str(stated.minimum), needs.glibc.value):
        return []
    return [f"requires glibc is {stated.text}, but glibc {needs.glibc.value} is needed: {needs.glibc.source}"]


def _disk(stated: Minimum | None, needs: DetectedNeeds) -> list[str]:
    if stated is None or not isinstance(stated.minimum, int) or stated.minimum >= needs.disk:
        return []
    return [f"requires disk is {stated.text}, but the environment needs {human_size(needs.disk)}"]
