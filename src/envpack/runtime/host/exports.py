"""Conversion of a bundle's GPU requirements to NVIDIA_REQUIRE_CUDA, for container images. No I/O."""

from __future__ import annotations

from typing import Optional, Tuple

from envpack.runtime.format.needs import GpuCode
from envpack.runtime.host import require_cuda
from envpack.runtime.host.arch import Target, target_of
from envpack.runtime.host.checks.gpu import needs_nvidia
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import minimum_driver, table
from envpack.runtime.host.versions import at_least

Arch = Tuple[int, int]
Range = Tuple[Arch, Optional[Arch]]
"""A range of compute capabilities: the first, and the end, which is excluded (None: no end)."""


def require_cuda_of(wanted: Requirements) -> str:
    """Return the NVIDIA_REQUIRE_CUDA expression of a bundle; "" when it needs no GPU.

    The expression states the minimum driver and the GPUs that the bundle's main libraries have code for. It can't
    state the memory of a GPU or what is compiled at run time.
    """
    stated = wanted.stated.get("cuda")
    if stated is not None and stated.is_expression:
        return require_cuda.format_expression(require_cuda.parse(stated.text))
    driver = _driver(wanted)
    ranges = _ranges(wanted)
    terms = [",".join([*driver, *_arch(*one)]) for one in ranges] if ranges else [",".join(driver)]
    return " ".join(term for term in terms if term) if needs_nvidia(wanted) else ""


def _driver(wanted: Requirements) -> list[str]:
    row = minimum_driver(wanted.cuda.value) if wanted.cuda is not None else None
    least = [str(row["driver"])] if row is not None else []
    if "driver" in wanted.stated:
        stated = str(wanted.stated["driver"].minimum)
        least = [stated] if not least or at_least(stated, least[0]) else least
    if not least and wanted.cuda is not None:
        return [f"cuda>={wanted.cuda.value}"]
    return [f"driver>={version}" for version in least]


def _arch(first: Arch, end: Arch | None) -> list[str]:
    least = f"arch>={first[0]}.{first[1]}"
    return [least] if end is None else [least, f"arch<{end[0]}.{end[1]}"]


def _ranges(wanted: Requirements) -> list[Range]:
    """Return the compute capabilities that all main libraries have code for, from the stated one on."""
    found: list[Range] = [((0, 0), None)]
    for code in wanted.needs.gpu_code:
        if code.main and (code.sass or code.ptx):
            found = _common(found, _covered(code))
    stated = wanted.stated.get("compute_capability")
    if stated is not None:
        parts = (*stated.version, 0)
        found = _common(found, [((parts[0], parts[1]), None)])
    return [] if found == [((0, 0), None)] else found


def _covered(code: GpuCode) -> list[Range]:
    ranges: list[Range] = []
    for names, portable in ((code.sass, False), (code.ptx, True)):
        for target in map(target_of, names):
            if target is not None:
                ranges += _of(target, portable)
    return _merged(ranges)


def _of(target: Target, portable: bool) -> list[Range]:
    """Return the GPUs that one target runs on.

    Jetson GPUs, which run no code of other targets, are ignored: the image is for servers.
    """
    if target.suffix == "f":
        rows = [row for row in table("arch", "families") if row["target"] == target.number]
        devices = [tuple(map(int, device.split("."))) for row in rows for device in row["devices"]]
        return [((major, minor), (major, minor + 1)) for major, minor in devices]
    exact = target.suffix == "a" or target.number in {row["target"] for row in table("arch", "exact")}
    if exact:
        return [(target.version, (target.major, target.minor + 1))]
    return [(target.version, None if portable else (target.major + 1, 0))]


def _merged(ranges: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for first, end in sorted(ranges, key=lambda one: one[0]):
        if merged and (merged[-1][1] is None or first <= merged[-1][1]):
            before = merged[-1][1]
            merged[-1] = (merged[-1][0], None if before is None or end is None else max(before, end))
        else:
            merged.append((first, end))
    return merged


def _common(some: list[Range], others: list[Range]) -> list[Range]:
    common = []
    for first, end in some:
        for other_first, other_end in others:
            start = max(first, other_first)
            ends = [one for one in (end, other_end) if one is not None]
            stop = min(ends) if ends else None
            if stop is None or start < stop:
                common.append((start, stop))
    return _merged(common)
