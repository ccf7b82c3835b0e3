"""Verdicts on compilers that an environment uses at run time: for GPUs, and for C. No I/O."""

from __future__ import annotations

from typing import Iterator, Sequence

from envpack.runtime.format.needs import Compiler
from envpack.runtime.host.arch import capability
from envpack.runtime.host.checks.remedies import driver_runs, update_driver
from envpack.runtime.host.checks.verdict import OK, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.facts import Gpu, HostFacts
from envpack.runtime.host.gpus import NO_DRIVER, driver_cuda, name_of, seen, sm
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import (
    NO_RULE,
    Rule,
    cite,
    driver_rule,
    isa_row,
    made_isa,
    minimum_driver,
    native_driver,
    newest_isa,
)
from envpack.runtime.host.versions import at_least, compare, major, major_minor

_PTXAS = Rule(
    "a ptxas compiles for the GPUs that it knows: Value 'sm_103a' is not defined for option 'gpu-name'",
    "https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/index.html, GPU Feature List",
)
_C_COMPILER = Rule(
    "triton compiles its launchers with CC, gcc or clang",
    "https://github.com/triton-lang/triton, python/triton/runtime/build.py",
)


def jit(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield a verdict on run-time compilers of machine code, and one on those that emit PTX for the driver.

    There is a warning for a compiler that does not know a GPU, and one for a host without a C compiler.
    """
    cuda = wanted.needs.cuda
    if cuda is None:
        return
    used = _used(wanted.needs.jit, facts)
    for judged, ptx in ((_machine_code, False), (_ptx, True)):
        found = [compiler for compiler in used if compiler.ptx is ptx]
        if found:
            newest = found[0]
            for compiler in found[1:]:
                if compare(compiler.cuda or cuda.value, newest.cuda or cuda.value) > 0:
                    newest = compiler
            who = " and ".join(dict.fromkeys(compiler.value for compiler in found))
            evidence = ", ".join(compiler.source for compiler in found)
            unknown = [] if ptx else list(_unknown_gpus(wanted.needs.jit, facts))
            verdict = judged(facts, newest, newest.cuda or cuda.value, who, evidence)
            yield from unknown if unknown and verdict.verdict == OK else [verdict, *unknown]
    needing = [compiler for compiler in used if compiler.c_compiler]
    if needing and facts.c_compiler == "":
        says = f"{needing[0].value} compiles its launchers at run time with a C compiler, and there is none"
        remedy = "install gcc (apt, dnf), add c-compiler (conda) to the spec and rebuild, or let CC name one"
        yield Verdict("jit", "a C compiler", "none", WARNING, says, remedy, needing[0].source, _C_COMPILER)


def _used(compilers: Sequence[Compiler], facts: HostFacts) -> list[Compiler]:
    """Return the compilers that are used for the GPUs of this host; all of them where nothing is known of GPUs."""
    capable = [gpu for gpu in seen(facts.nvidia) if gpu.compute_capability]
    used = [compiler for gpu in capable for compiler in _used_for(gpu, compilers)]
    return [compiler for compiler in compilers if compiler in used or not capable]


def _used_for(gpu: Gpu, compilers: Sequence[Compiler]) -> Iterator[Compiler]:
    """Yield the compiler of each package that is used for a GPU: triton has one for Blackwell and later GPUs."""
    for name in dict.fromkeys(compiler.value for compiler in compilers):
        fitting = [
            compiler
            for compiler in compilers
            if compiler.value == name and (not compiler.least or at_least(gpu.compute_capability, compiler.least))
        ]
        special = [compiler for compiler in fitting if compiler.least]
        yield from special or fitting


def _unknown_gpus(compilers: Sequence[Compiler], facts: HostFacts) -> Iterator[Verdict]:
    """Yield a warning for each compiler that does not know a GPU it is used for."""
    named = set()
    for gpu in seen(facts.nvidia):
        number = "".join(map(str, capability(gpu.compute_capability) or ()))
        for compiler in _used_for(gpu, compilers) if number else ():
            known = {name.rstrip("af") for name in compiler.targets}  # by its own names: triton asks for them
            if not known or number in known or compiler.source in named:
                continue
            named.add(compiler.source)
            name, needed = compiler.value, f"a compiler for {sm(gpu)}"
            says = (
                f"{name} compiles at run time with a ptxas of CUDA {compiler.cuda}, which does not know "
                f"{name_of(gpu)} ({sm(gpu)})"
            )
            remedy = f"rebuild with a newer {name}, or let {_variable(compiler)} name a newer ptxas"
            found = f"ptxas of CUDA {compiler.cuda}"
            yield Verdict("jit", needed, found, WARNING, says, remedy, compiler.source, _PTXAS)


def _variable(compiler: Compiler) -> str:
    """Return the environment variable that names another ptxas in the place of one (triton/knobs.py)."""
    return "TRITON_PTXAS_BLACKWELL_PATH" if compiler.least else "TRITON_PTXAS_PATH"


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
        remedy += f", or set {_variable(compiler)} to a ptxas of CUDA {major(speaks)}"
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
