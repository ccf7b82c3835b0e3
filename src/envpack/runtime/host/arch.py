"""The rules for which GPU runs which code: SASS and PTX targets against compute capabilities. No I/O.

The exceptions to these rules are in ``data/arch.json``.
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
    """A compilation target: ``sm_90a`` is major 9, minor 0, suffix "a"."""

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
    """The way in which a library's code runs on a GPU.

    Attributes:
        how: "sass"; "ptx" (the driver compiles it at first use); "ptx-too-new" (the driver's compiler does not
            know this PTX ISA version); "ptx-unknown"; or "none".
        by: The target, or the PTX ISA version where that decides.
    """

    how: str
    by: str = ""


def target_of(text: str) -> Target | None:
    """Return the target with this name, None when ``text`` is not a target.

    A renamed target gets its present number.
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    number = match[1] + match[2]
    for row in table("arch", "renamed"):
        if row["target"] == number:
            number = row["same_as"]
    return Target(int(number[:-1]), int(number[-1]), match[3])


def capability(text: str) -> tuple[int, int] | None:
    """Return a compute capability such as "8.6" as two numbers, None when ``text`` is not one."""
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def runs_sass(target: Target, device: tuple[int, int]) -> bool:
    """Return whether machine code for ``target`` runs on a GPU of this compute capability.

    It needs the same major and an equal or higher minor version. Exceptions: some targets run only on their own
    GPU or family, and some GPUs run only their own code.
    """
    if target.version == device:
        return True
    if target.suffix:
        return target.suffix == "f" and _in_family(target, device)
    exact = {row["target"] for row in table("arch", "exact")}
    if target.number in exact or "".join(map(str, device)) in exact:
        return False
    return target.major == device[0] and target.minor <= device[1]


def runs_ptx(target: Target, device: tuple[int, int]) -> bool:
    """Return whether PTX for ``target`` runs on a GPU of this compute capability.

    It needs an equal or higher capability. A target with a suffix follows the rule for machine code.
    """
    if target.suffix:
        return runs_sass(target, device)
    return target.version <= device


def _in_family(target: Target, device: tuple[int, int]) -> bool:
    name = ".".join(map(str, device))
    return any(row["target"] == target.number and name in row["devices"] for row in table("arch", "families"))


def coverage(code: GpuCode, device: tuple[int, int], driver_cuda: str) -> Coverage:
    """Return how ``code`` runs on a GPU.

    Machine code decides before PTX. Of PTX, the highest target that the GPU runs decides, as the best match. One
    run of nvcc writes one ISA, so a lower target with an older ISA is of other kernels and no substitute.

    Args:
        code: The GPU code of one library.
        device: The compute capability of the GPU, major and minor.
        driver_cuda: The CUDA version that the driver's libcuda supports, "" when unknown.
    """
    for name in code.sass:
        target = target_of(name)
        if target is not None and runs_sass(target, device):
            return Coverage("sass", name)
    known = ((target_of(name), name) for name in code.ptx)
    runs = [(target.version, target.suffix, name) for target, name in known if target and runs_ptx(target, device)]
    if not runs:
        return Coverage("none")
    name = max(runs)[-1]
    isa = code.isa(name)
    row = isa_row(isa)
    if row is None or not driver_cuda:
        return Coverage("ptx-unknown", isa)
    return Coverage("ptx", name) if at_least(driver_cuda, row["cuda"]) else Coverage("ptx-too-new", isa)
