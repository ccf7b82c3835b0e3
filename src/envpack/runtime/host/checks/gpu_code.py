"""Verdicts on GPU code: the libraries' code, code that is compiled at run time, and cuda-compat. No I/O."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

from envpack.runtime.format.needs import Compiler, GpuCode
from envpack.runtime.host.arch import Coverage, capability, coverage
from envpack.runtime.host.checks.remedies import code_remedy, driver_runs, update_driver
from envpack.runtime.host.checks.verdict import FAILED, OK, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.facts import Gpu, HostFacts
from envpack.runtime.host.gpus import (
    NO_DRIVER,
    compat_in_use,
    describe,
    driver_cuda,
    is_geforce,
    name_of,
    only_these,
    seen,
    sm,
    unseen,
)
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import (
    NO_RULE,
    Rule,
    branch_cuda,
    cite,
    driver_rule,
    isa_row,
    made_isa,
    minimum_driver,
    native_driver,
    newest_isa,
)
from envpack.runtime.host.versions import at_least, compare, major, major_minor

_RULE = Rule(
    "machine code runs on the same major compute capability and an equal or higher minor one, PTX on higher ones",
    "CUDA Programming Guide, binary and PTX compatibility; arch.json has the exceptions",
)
_WORST_FIRST = ("none", "ptx-too-new", "ptx-unknown", "ptx", "sass")
_COMPAT = Rule(
    "only data-centre GPUs support forward compatibility",
    "https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
)


class _Reached(NamedTuple):
    """The main library whose code covers a GPU worst: it decides for the environment."""

    gpu: Gpu
    code: GpuCode
    how: Coverage


def shown(code: GpuCode) -> str:
    """Return the targets that a library has code for: "sm_50, 60, 70, PTX compute_90"."""
    parts = ["sm_" + ", ".join(name.replace("sm_", "") for name in code.sass)] if code.sass else []
    return ", ".join(parts + [f"PTX {name}" for name in code.ptx])


def gpu_code(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield the verdict on the GPU code of the main libraries; none when they have none."""
    libraries = [code for code in wanted.needs.gpu_code if code.main and (code.sass or code.ptx)]
    if not libraries:
        return
    reached = []
    for gpu in seen(facts.nvidia):
        device = capability(gpu.compute_capability)
        if device is not None:
            ways = [_Reached(gpu, code, coverage(code, device, driver_cuda(facts.nvidia))) for code in libraries]
            reached.append(min(ways, key=lambda way: _WORST_FIRST.index(way.how.how)))
    if not reached:
        says = unseen(facts.nvidia)
        yield Verdict("gpu_code", shown(libraries[0]), "unknown", UNKNOWN, says, "", libraries[0].library, _RULE)
        return
    worst = min(reached, key=lambda way: _WORST_FIRST.index(way.how.how))
    fine = [way.gpu for way in reached if way.how.how not in ("none", "ptx-too-new")]
    found = " and ".join(dict.fromkeys(sm(way.gpu) for way in reached))
    yield _judged(worst, wanted, facts, found, fine)


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
            else f"it is not known whether this driver compiles PTX {code.ptx_isa}".replace("  ", " ")
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


def jit(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield a verdict on run-time compilers of machine code, and one on those that emit PTX for the driver."""
    cuda = wanted.needs.cuda
    if cuda is None:
        return
    for judged, ptx in ((_machine_code, False), (_ptx, True)):
        found = [compiler for compiler in wanted.needs.jit if compiler.ptx is ptx]
        if found:
            newest = found[0]
            for compiler in found[1:]:
                if compare(compiler.cuda or cuda.value, newest.cuda or cuda.value) > 0:
                    newest = compiler
            who = " and ".join(dict.fromkeys(compiler.value for compiler in found))
            evidence = ", ".join(compiler.source for compiler in found)
            yield judged(facts, newest, newest.cuda or cuda.value, who, evidence)


def _machine_code(facts: HostFacts, compiler: Compiler, cuda: str, who: str, evidence: str) -> Verdict:
    """Return the verdict on a compiler of machine code: it runs where code made with the compiler's CUDA runs."""
    row = minimum_driver(cuda)
    rule = driver_rule(row)
    needed = f"CUDA {cuda}: driver >= {row['driver']}" if row is not None else f"CUDA {cuda}"
    nvidia, speaks = facts.nvidia, driver_cuda(facts.nvidia)
    by_version = nvidia.driver and not nvidia.overridden and not facts.wsl
    found = f"driver {nvidia.driver}" if by_version else f"CUDA {speaks}" if speaks else "unknown"
    if not speaks:
        return Verdict("jit", needed, found, UNKNOWN, NO_DRIVER, "", evidence, rule)
    if driver_runs(facts, cuda) or at_least(speaks, cuda):
        return Verdict("jit", needed, found, OK, "", "", evidence, rule)
    if row is None:
        says = f"it is not known whether this driver (CUDA {speaks}) runs code that {who} compiles for CUDA {cuda}"
        return Verdict(
            "jit", needed, found, UNKNOWN, says, "check with a newer version of envpack", evidence, rule
        )
    says = (
        f"{who} compiles at run time for CUDA {cuda}, which needs driver >= {row['driver']} "
        "('device kernel image is invalid')"
    )
    remedy = update_driver(facts, row["driver"])
    if "triton" in compiler.value:
        remedy += f", or set TRITON_PTXAS_PATH to a ptxas of CUDA {major(speaks)}"
    return Verdict("jit", needed, found, WARNING, says, remedy, evidence, rule)


def _ptx(facts: HostFacts, compiler: Compiler, cuda: str, who: str, evidence: str) -> Verdict:
    """Return the verdict on a compiler of PTX: the driver must know the ISA version of the compiler's CUDA."""
    version, speaks = major_minor(cuda), driver_cuda(facts.nvidia)
    isa, row = made_isa(version), native_driver(version)
    needed = f"PTX {isa}" if isa else f"PTX of CUDA {version}"
    newest = newest_isa(speaks) if speaks else ""
    found = f"PTX {newest}" if newest else f"CUDA {speaks}" if speaks else "unknown"
    known = isa_row(isa)
    rule = cite("ptx", f"CUDA {known['cuda']} and later compile PTX {isa}", known) if known else NO_RULE
    if not speaks:
        return Verdict("jit", needed, found, UNKNOWN, NO_DRIVER, "", evidence, rule)
    if at_least(speaks, known["cuda"] if known else version):
        return Verdict("jit", needed, found, OK, "", "", evidence, rule)
    says = (
        f"{who} compiles at run time to PTX of CUDA {version}, but this driver (CUDA {speaks}) refuses PTX that "
        "is newer than its own (error 222)"
    )
    remedy = update_driver(facts, row["driver"] if row is not None else "")
    if compiler.value.startswith("numba"):
        remedy += ", or rebuild with numba-cuda and cuda-bindings, which link with nvJitLink"
    return Verdict("jit", needed, found, WARNING, says, remedy, evidence, rule)


def cuda_compat(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield the verdict on a libcuda of cuda-compat in the bundle or on the library path."""
    nvidia, inside = facts.nvidia, wanted.needs.cuda_compat
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
