"""Which GPU runs which code: SASS and PTX targets against compute capabilities. Pure.

The exceptions from the rules here stand in data/arch.json.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from envpack.runtime.format.needs import GpuCode
from envpack.runtime.host.tables import isa_row, table
from envpack.runtime.host.versions import at_least

_TARGET = re.compile(r"(?:sm_|compute_)(\d+)(\d)([af]?)")


@dataclass(frozen=True)
class Target:
    """``sm_90a`` as major 9, minor 0, suffix "a"."""

    major: int
    minor: int
    suffix: str

    @property
    def number(self) -> str:
        return f"{self.major}{self.minor}"

    @property
    def version(self) -> tuple[int, int]:
        return self.major, self.minor


@dataclass(frozen=True)
class Coverage:
    """How a library's code reaches a GPU: ``how`` is "sass", "ptx" (compiled by the driver when first used),
    "ptx-too-new" (the driver's compiler does not know it), "ptx-unknown" or "none"; ``by``: the target, or the PTX
    ISA version where that decides."""

    how: str
    by: str = ""


def target_of(text: str) -> Target | None:
    """A target from its name; None for what is none. A renamed one gets its present number."""
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    number = match[1] + match[2]
    for row in table("arch", "renamed"):
        if row["target"] == number:
            number = row["same_as"]
    return Target(int(number[:-1]), int(number[-1]), match[3])


def capability(text: str) -> tuple[int, int] | None:
    """A compute capability such as "8.6"; None for what is none."""
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def runs_sass(target: Target, device: tuple[int, int]) -> bool:
    """Machine code: the same major and an equal or higher minor; some targets and GPUs only each other."""
    if target.version == device:
        return True
    if target.suffix:
        return target.suffix == "f" and _in_family(target, device)
    exact = {row["target"] for row in table("arch", "exact")}
    if target.number in exact or "".join(map(str, device)) in exact:
        return False
    return target.major == device[0] and target.minor <= device[1]


def runs_ptx(target: Target, device: tuple[int, int]) -> bool:
    """PTX: any equal or higher GPU; with a suffix as machine code."""
    if target.suffix:
        return runs_sass(target, device)
    return target.version <= device


def _in_family(target: Target, device: tuple[int, int]) -> bool:
    name = ".".join(map(str, device))
    return any(row["target"] == target.number and name in row["devices"] for row in table("arch", "families"))


def coverage(code: GpuCode, device: tuple[int, int], driver_cuda: str) -> Coverage:
    """How ``code`` reaches a GPU of this compute capability under a driver whose libcuda speaks ``driver_cuda``
    ("" when unknown)."""
    for name in code.sass:
        target = target_of(name)
        if target is not None and runs_sass(target, device):
            return Coverage("sass", name)
    for name in code.ptx:
        target = target_of(name)
        if target is None or not runs_ptx(target, device):
            continue
        row = isa_row(code.ptx_isa)
        if row is None or not driver_cuda:
            return Coverage("ptx-unknown", name)
        return (
            Coverage("ptx", name) if at_least(driver_cuda, row["cuda"]) else Coverage("ptx-too-new", code.ptx_isa)
        )
    return Coverage("none")
