"""Verdicts on the GPU code of libraries, and on cuda-compat. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, NamedTuple, Sequence

from envpack.runtime.format.needs import GpuCode
from envpack.runtime.host.arch import Coverage, capability, coverage
from envpack.runtime.host.checks.remedies import code_remedy, update_driver
from envpack.runtime.host.checks.verdict import FAILED, OK, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.facts import Gpu, HostFacts
from envpack.runtime.host.gpus import (
    compat_in_use,
    describe,
    driver_cuda,
    foreign_libcuda,
    is_geforce,
    name_of,
    only_these,
    seen,
    sm,
    unseen,
)
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import (
    Rule,
    branch_cuda,
    cite,
    isa_row,
    native_driver,
    newest_isa,
)

_RULE = Rule(
    "machine code runs on the same major compute capability and an equal or higher minor one, PTX on higher ones",
    "CUDA Programming Guide, binary and PTX compatibility; arch.json has the exceptions",
)
_WORST_FIRST = ("none", "ptx-too-new", "ptx-unknown", "ptx", "sass")
_COMPAT = Rule(
    "only data-centre GPUs support forward compatibility",
    "https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
)


_RUNS = {
    "sass": "machine code",
    "ptx": "PTX",
    "ptx-unknown": "PTX, if the driver compiles it",
    "ptx-too-new": "PTX that is too new for the driver",
    "none": "no code",
}
_LISTED = 20


_MISMATCH = Rule(
    "libcuda has to be of the kernel module's version, or of cuda-compat with a newer one",
    "https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html: SYSTEM_DRIVER_MISMATCH (803)",
)


class _Reached(NamedTuple):
    """The library with the least code for a GPU: it decides for the environment, or for an add-on."""

    gpu: Gpu
    code: GpuCode
    how: Coverage


def shown(code: GpuCode) -> str:
    """Return the targets that a library has code for: "sm_50, 60, 70, PTX compute_90"."""
    parts = ["sm_" + ", ".join(name.replace("sm_", "") for name in code.sass)] if code.sass else []
    return ", ".join(parts + [f"PTX {name}" for name in code.ptx])


def gpu_code(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield the verdict on the GPU code of the main libraries, then a warning for each add-on that can't run.

    Nothing is yielded where there are no main libraries with code. An add-on is a package with GPU code,
    such as flash-attn. A library of it without code for a GPU may be for other GPUs only, so that counts where no
    library of that package has code for it; PTX that the driver can't compile always counts (error 222).
    """
    libraries = [code for code in wanted.needs.gpu_code if code.main and (code.sass or code.ptx)]
    if not libraries:
        return
    reached = _reached(libraries, facts)
    if not reached:
        says = unseen(facts.nvidia)
        yield Verdict("gpu_code", shown(libraries[0]), "unknown", UNKNOWN, says, "", libraries[0].library, _RULE)
        return
    addons = [code for code in wanted.needs.gpu_code if code.addon and (code.sass or code.ptx)]
    yield replace(_worst(reached, wanted, facts), evidence=_coverage([*libraries, *addons], facts))
    covered = {
        (code.package, gpu.index)
        for code in (*libraries, *addons)
        for gpu, _, how in _reached([code], facts)
        if how.how not in ("none", "ptx-too-new")
    }
    # what is said of a main library includes the others of its package
    reported = {way.code.package or way.code.library for way in reached if way.how.how in ("none", "ptx-too-new")}
    for code in addons:
        ways = _reached([code], facts)
        bad = [
            way
            for way in ways
            if way.how.how == "ptx-too-new"
            or (way.how.how == "none" and (code.package, way.gpu.index) not in covered)
        ]
        if bad and (code.package or code.library) not in reported:
            reported.add(code.package or code.library)
            yield replace(_worst(ways, wanted, facts), verdict=WARNING)


def _reached(libraries: Sequence[GpuCode], facts: HostFacts) -> list[_Reached]:
    """Return for each GPU the library that covers it worst."""
    reached = []
    for gpu in seen(facts.nvidia):
        device = capability(gpu.compute_capability)
        if device is not None:
            ways = [_Reached(gpu, code, coverage(code, device, driver_cuda(facts.nvidia))) for code in libraries]
            reached.append(min(ways, key=lambda way: _WORST_FIRST.index(way.how.how)))
    return reached


def _worst(reached: Sequence[_Reached], wanted: Requirements, facts: HostFacts) -> Verdict:
    worst = min(reached, key=lambda way: _WORST_FIRST.index(way.how.how))
    fine = [way.gpu for way in reached if way.how.how not in ("none", "ptx-too-new")]
    found = " and ".join(dict.fromkeys(sm(way.gpu) for way in reached))
    return _judged(worst, wanted, facts, found, fine)


def _coverage(libraries: Sequence[GpuCode], facts: HostFacts) -> str:
    """Return the coverage of each library in words; only the path where there is one library."""
    if len(libraries) == 1:
        return libraries[0].library
    lines = [
        f"{code.library} ({', '.join(dict.fromkeys(_RUNS[how.how] for _, _, how in _reached([code], facts)))})"
        for code in libraries[:_LISTED]
    ]
    more = [f"{len(libraries) - _LISTED} more"] if len(libraries) > _LISTED else []
    return ", ".join([*lines, *more])


def _judged(way: _Reached, wanted: Requirements, facts: HostFacts, found: str, fine: Sequence[Gpu]) -> Verdict:
    gpu, code, how = way
    needed, rule, remedy = shown(code), _RULE, ""
    if how.how == "sass":
        return Verdict("gpu_code", needed, found, OK, "", "", code.library, rule)
    if how.how in ("ptx", "ptx-unknown"):
        known = how.how == "ptx"
        says = f"{code.library} has no machine code for {name_of(gpu)} ({sm(gpu)}), only PTX; " + (
            "the driver compiles it at first use, which takes some time"
            if known
            else f"it is not known whether this driver compiles PTX {how.by}".rstrip()
        )
        return Verdict("gpu_code", needed, found, WARNING if known else UNKNOWN, says, "", code.library, rule)
    if how.how == "ptx-too-new":
        says, remedy, rule = _too_new(way, facts)
    else:
        says = f"{name_of(gpu)} ({sm(gpu)}) found; {code.library} has code for {needed}"
        remedy = code_remedy(wanted, facts, code, gpu)
    if fine:
        return Verdict("gpu_code", needed, found, WARNING, says, only_these(fine), code.library, rule)
    return Verdict("gpu_code", needed, found, FAILED, says, remedy, code.library, rule)


def _too_new(way: _Reached, facts: HostFacts) -> tuple[str, str, Rule]:
    """Return sentence, remedy and rule for PTX that the driver's compiler does not know."""
    cuda, isa = driver_cuda(facts.nvidia), way.how.by
    row = isa_row(isa)
    assert row is not None  # PTX is judged too new only with a row
    first = native_driver(row["cuda"])
    says = (
        f"{way.code.library} has only PTX {isa} for {name_of(way.gpu)} ({sm(way.gpu)}), but the driver "
        f"(CUDA {cuda}) compiles only PTX up to {newest_isa(cuda) or 'an older version'} (error 222)"
    )
    remedy = update_driver(facts, first["driver"] if first is not None else "")
    return says, remedy, cite("ptx", f"CUDA {row['cuda']} and later compile PTX {isa}", row)


def cuda_compat(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield the verdict on a libcuda of cuda-compat in the bundle or on the library path."""
    nvidia, inside = facts.nvidia, wanted.needs.cuda_compat
    problem = "" if facts.wsl else foreign_libcuda(nvidia)
    if problem:
        says = f"{problem}, and the kernel module of {nvidia.driver}: CUDA does not start (error 803)"
        remedy = "take the other libcuda.so.1 off LD_LIBRARY_PATH or out of the image, or reboot after an update"
        found = f"driver {nvidia.driver}"
        evidence = "libcuda.so.1 on the library path"
        yield Verdict("cuda_compat", "libcuda of the driver", found, FAILED, says, remedy, evidence, _MISMATCH)
        return
    in_use = compat_in_use(nvidia)
    if not in_use and not inside:
        return
    name, needed = "cuda_compat", "no GeForce"
    evidence = ", ".join(evidence.source for evidence in inside) or "libcuda is newer than the driver"
    refusing = next((gpu for gpu in seen(nvidia) if is_geforce(gpu)), None)
    if refusing is None:
        yield Verdict(name, needed, describe(seen(nvidia)) or "no GPU", OK, "", "", evidence, _COMPAT)
    elif in_use:
        says = (
            f"libcuda is from cuda-compat (CUDA {nvidia.cuda}, but driver {nvidia.driver} has CUDA "
            f"{branch_cuda(nvidia.driver)}), which {name_of(refusing)} does not support (error 804)"
        )
        remedy = "remove cuda-compat from LD_LIBRARY_PATH, or uninstall it"
        yield Verdict(name, needed, name_of(refusing), FAILED, says, remedy, evidence, _COMPAT)
    else:
        says = (
            f"the bundle contains a libcuda (cuda-compat), which {name_of(refusing)} does not support (error 804)"
        )
        remedy = "do not add it to LD_LIBRARY_PATH, or rebuild without it"
        yield Verdict(name, needed, name_of(refusing), WARNING, says, remedy, evidence, _COMPAT)
