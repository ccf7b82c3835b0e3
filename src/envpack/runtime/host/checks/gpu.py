"""Verdicts on NVIDIA's driver and GPUs, and on ROCm's driver. No I/O."""

from __future__ import annotations

from typing import Iterator, Sequence

from envpack.runtime.host import require_cuda
from envpack.runtime.host.checks.check import GPU, Check
from envpack.runtime.host.checks.gpu_code import cuda_compat, gpu_code
from envpack.runtime.host.checks.jit import jit
from envpack.runtime.host.checks.remedies import driver_remedy, update_driver
from envpack.runtime.host.checks.verdict import FAILED, OK, UNKNOWN, WARNING, Verdict, size_verdict
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.gpus import (
    NO_DRIVER,
    compat_in_use,
    describe,
    is_geforce,
    name_of,
    only_these,
    seen,
    unseen,
)
from envpack.runtime.host.minimum import choice, cuda_version, size, version
from envpack.runtime.host.requirements import STATED, Requirements
from envpack.runtime.host.tables import Rule, cite, driver_at_least, driver_rule, minimum_driver, state_row
from envpack.runtime.host.versions import at_least, major
from envpack.runtime.report import human_size

NEEDS_GPU = "this bundle needs a GPU"


def needs_nvidia(wanted: Requirements) -> bool:
    """Return whether the bundle needs an NVIDIA GPU, as far as is known."""
    names = {check.name for check in CHECKS} - ({"gpu"} if wanted.gpu_optional else set())
    return wanted.needs.cuda is not None or bool(names & wanted.stated.keys())


def does_without(wanted: Requirements, facts: HostFacts) -> bool:
    """Return whether the bundle runs without a GPU here: it may, and the host has none for this process."""
    return wanted.gpu_optional and bool(state_row(facts.nvidia.state).get("absent"))


def _gpu(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    if not needs_nvidia(wanted):
        return
    nvidia = facts.nvidia
    needed, row = "an NVIDIA GPU", state_row(nvidia.state)
    rule = cite("states", nvidia.state, row)
    evidence = wanted.cuda.source if wanted.cuda is not None else STATED
    found = nvidia.state.replace("-", " ")
    if does_without(wanted, facts):
        says = f"{row['says']}; this bundle runs without one"
        yield Verdict("gpu", f"{needed} or none", found, OK, says, "", STATED, rule)
    elif nvidia.state == "ok":
        yield _gpu_that_works(nvidia, needed, evidence, rule)
    elif nvidia.state == "overridden":
        found = f"CUDA {nvidia.cuda} (CONDA_OVERRIDE_CUDA)"
        yield Verdict("gpu", needed, found, OK, "", "", evidence, rule)
    elif nvidia.state == "not-looked":
        yield Verdict("gpu", needed, found, UNKNOWN, f"the GPU {row['says']}", row["remedy"], evidence, rule)
    else:
        error = f" ({nvidia.problem})" if nvidia.problem else ""
        says = f"{row['says']}{error}; {NEEDS_GPU}"
        yield Verdict("gpu", needed, found, FAILED, says, row["remedy"], evidence, rule)


def _gpu_that_works(nvidia: Nvidia, needed: str, evidence: str, rule: Rule) -> Verdict:
    usable = seen(nvidia)
    found = describe(usable)
    if len(usable) < len(nvidia.devices):
        found += f" ({len(usable)} of {len(nvidia.devices)} GPUs)"
    for says, remedy in _remarks(nvidia, usable):
        return Verdict("gpu", needed, found, WARNING, says, remedy, evidence, rule)
    return Verdict("gpu", needed, found, OK, "", "", evidence, rule)


def _remarks(nvidia: Nvidia, usable: Sequence[Gpu]) -> Iterator[tuple[str, str]]:
    """Return remarks on GPUs that work, as sentence and remedy, the most serious first."""
    for gpu in nvidia.devices:
        if gpu.error and gpu.visible is not False:
            state = {"15": "lost", "16": "reset-required"}.get(gpu.error.split()[0], "error")
            yield f"GPU {gpu.index} can't be used (NVML: {gpu.error})", state_row(state)["remedy"]
    if any(gpu.visible is None for gpu in usable):
        yield (
            f"CUDA_VISIBLE_DEVICES={nvidia.visible_devices} is ambiguous: the GPUs are different models, and CUDA "
            "numbers them from the fastest",
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID",
        )
    if any(gpu.fabric not in ("", "ready") for gpu in usable):
        yield f"the NVSwitch fabric is not ready ({usable[0].fabric})", state_row("fabric")["remedy"]
    if any(gpu.licensed is False for gpu in usable):
        yield (
            "the vGPU has no licence, and CUDA stops working on it after some minutes",
            "configure a licence for this machine (see 'systemctl status nvidia-gridd')",
        )
    for gpu in usable:
        if gpu.mig and not gpu.slices and nvidia.source == "nvml":
            yield f"GPU {gpu.index} is in MIG mode and has no instance", state_row("mig-empty")["remedy"]


def _driver(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("driver")
    if stated is None:
        return
    needed, found = str(stated.minimum), facts.nvidia.driver
    if not found:
        yield Verdict("driver", f">= {needed}", "none", UNKNOWN, NO_DRIVER, evidence=STATED)
    elif driver_at_least(found, needed):
        yield Verdict("driver", f">= {needed}", found, OK, evidence=STATED)
    else:
        says = f"driver {found} found; this bundle needs >= {needed}"
        yield Verdict("driver", f">= {needed}", found, FAILED, says, update_driver(facts), STATED)


def _cuda(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    stated = wanted.stated.get("cuda")
    if stated is not None and stated.is_expression:
        yield _expression(stated.text, facts)
        if wanted.needs.cuda is not None:
            detected = _runs_cuda(wanted, facts, wanted.needs.cuda.value, wanted.needs.cuda.source)
            if detected.verdict == FAILED:
                yield detected
    elif wanted.cuda is not None:
        yield _runs_cuda(wanted, facts, wanted.cuda.value, wanted.cuda.source)


def _runs_cuda(wanted: Requirements, facts: HostFacts, version: str, evidence: str) -> Verdict:
    nvidia = facts.nvidia
    row = minimum_driver(version)
    least = str(row["driver"]) if row is not None else ""
    needed = f"{version}: driver >= {least}" if least else version
    rule = driver_rule(row)
    # CONDA_OVERRIDE_CUDA replaces the driver's version; drivers of Windows have other version numbers
    driver = "" if nvidia.overridden or (facts.wsl and nvidia.cuda) else nvidia.driver
    found = f"driver {driver}" if driver else f"CUDA {nvidia.cuda}" if nvidia.cuda else "no driver"
    found += " (CONDA_OVERRIDE_CUDA)" if nvidia.overridden and nvidia.cuda else ""
    if not driver and not nvidia.cuda:
        return Verdict("cuda", needed, found, UNKNOWN, NO_DRIVER, "", evidence, rule)
    if driver and least and driver_at_least(driver, least):
        return Verdict("cuda", needed, found, OK, "", "", evidence, rule)
    # what the driver reports counts where it says more than the table, but not for the libcuda of cuda-compat
    if nvidia.cuda and (not compat_in_use(nvidia) or _forward_compatible(nvidia)):
        if at_least(nvidia.cuda, version):
            newer = Rule(f"libcuda supports CUDA {nvidia.cuda} and all earlier versions")
            return Verdict("cuda", needed, found, OK, "", "", evidence, newer)
        if least and major(nvidia.cuda) == major(version) >= 11 and (not driver or compat_in_use(nvidia)):
            return Verdict("cuda", needed, found, OK, "", "", evidence, rule)
    if not least and (not nvidia.cuda or major(nvidia.cuda) == major(version)):
        says = f"{found} found; this version of envpack does not know the minimum driver for CUDA {version}"
        return Verdict(
            "cuda", needed, found, UNKNOWN, says, "check with a newer version of envpack", evidence, rule
        )
    asks = f">= {least}" if driver and least else f"a driver for CUDA {version}"
    says = f"{found} found; this bundle's CUDA {version} needs {asks}"
    return Verdict("cuda", needed, found, FAILED, says, driver_remedy(wanted, facts, least), evidence, rule)


def _forward_compatible(nvidia: Nvidia) -> bool:
    """Return whether cuda-compat is in use (libcuda is newer than the driver's own) and all GPUs support it."""
    return compat_in_use(nvidia) and not any(is_geforce(gpu) for gpu in seen(nvidia))


def _expression(text: str, facts: HostFacts) -> Verdict:
    nvidia = facts.nvidia
    needed = " ".join(text.split())
    expression = require_cuda.parse(text)
    host = {"cuda": nvidia.cuda, "driver": nvidia.driver}
    answers = {
        require_cuda.evaluate(expression, {**host, "arch": gpu.compute_capability, "brand": gpu.brand})
        for gpu in seen(nvidia) or [Gpu(0)]
    }
    found = ", ".join(f"{name} {value}" for name, value in host.items() if value) or "no driver"
    rule = Rule(
        "a blank means OR, a comma means AND", "https://github.com/NVIDIA/nvidia-container-toolkit: requirements"
    )
    if True in answers:
        return Verdict("cuda", needed, found, OK, "", "", STATED, rule)
    if None in answers:
        return Verdict(
            "cuda", needed, found, UNKNOWN, f"it is not known whether {needed!r} is true", "", STATED, rule
        )
    says = f"{found} found; {needed!r} is not true for this host"
    return Verdict("cuda", needed, found, FAILED, says, update_driver(facts), STATED, rule)


def _capability(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    nvidia = facts.nvidia
    stated = wanted.stated.get("compute_capability")
    if stated is None:
        return
    name, least = "compute_capability", str(stated.minimum)
    gpus = [gpu for gpu in seen(nvidia) if gpu.compute_capability]
    enough = [gpu for gpu in gpus if at_least(gpu.compute_capability, least)]
    found = " and ".join(dict.fromkeys(gpu.compute_capability for gpu in gpus)) or "unknown"
    if not gpus:
        yield Verdict(name, f">= {least}", found, UNKNOWN, unseen(nvidia), evidence=STATED)
    elif len(enough) == len(gpus):
        yield Verdict(name, f">= {least}", found, OK, evidence=STATED)
    else:
        too_old = next(gpu for gpu in gpus if gpu not in enough)
        says = f"{name_of(too_old)} with compute capability {too_old.compute_capability} found; "
        says += f"this bundle needs >= {least}"
        remedy = only_these(enough) if enough else "use a newer GPU"
        yield Verdict(name, f">= {least}", found, WARNING if enough else FAILED, says, remedy, STATED)


def _memory(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    nvidia = facts.nvidia
    stated = wanted.stated.get("gpu_memory")
    if stated is None:
        return
    needed, gpus = int(stated.minimum), seen(nvidia)
    if not gpus:
        yield Verdict("gpu_memory", human_size(needed), "unknown", UNKNOWN, unseen(nvidia), evidence=STATED)
        return
    largest = max(gpus, key=_usable_memory)
    noun = "in the largest MIG slice" if largest.mig else "of memory in one GPU"
    remedy = "create a larger MIG slice, or use a larger GPU" if largest.mig else "use a larger GPU"
    yield size_verdict("gpu_memory", noun, needed, _usable_memory(largest), remedy, STATED)


def _usable_memory(gpu: Gpu) -> int:
    """Return the memory of one CUDA device in bytes: for a GPU in MIG mode, that of its largest slice."""
    return max((part.memory for part in gpu.slices), default=0) if gpu.mig else gpu.memory


def _rocm(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    rocm = wanted.needs.rocm
    if rocm is None:
        return
    if facts.amd:
        says = f"an AMD GPU driver found; it is not known whether it supports ROCm {rocm.value}"
        yield Verdict("rocm", rocm.value, "/dev/kfd", UNKNOWN, says, "", rocm.source)
    else:
        says = f"no AMD GPU driver found (/dev/kfd); this bundle is built for ROCm {rocm.value}"
        remedy = "use a host with an AMD GPU and the amdgpu driver, or rebuild for CUDA or the CPU"
        yield Verdict("rocm", rocm.value, "no driver", FAILED, says, remedy, rocm.source)


def _gpu_code(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    return gpu_code(wanted, facts) if needs_nvidia(wanted) else iter(())


def _jit(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    """Yield verdicts where the driver works; the verdicts on driver and CUDA say so where it does not."""
    drivers = (*_driver(wanted, facts), *_cuda(wanted, facts))
    works = facts.nvidia.state in ("ok", "overridden") and all(item.verdict != FAILED for item in drivers)
    return jit(wanted, facts) if works else iter(())


def _cuda_compat(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    return cuda_compat(wanted, facts) if needs_nvidia(wanted) else iter(())


_STATED_ONLY = "if the spec states them; with MIG, those of an instance"

CHECKS = (
    Check(
        "gpu",
        _gpu,
        "whether CUDA finds a working GPU, see [GPU states](#gpu-states)",
        ("cuda",),
        ("nvidia",),
        form=choice(
            "`optional`: the environment also runs on hosts without an NVIDIA GPU; where there is one, it is "
            "checked as ever. `required`: it needs one, also if nothing in its files shows it",
            "optional",
            "required",
        ),
        scope=GPU,
    ),
    Check(
        "driver",
        _driver,
        "if the spec states one, in addition to the minimum driver that follows from CUDA",
        facts=("nvidia", "wsl", "container"),
        form=version("the version of the NVIDIA driver", "450.80.02"),
        scope=GPU,
    ),
    Check(
        "cuda",
        _cuda,
        "the minimum driver for this CUDA: by minor-version compatibility for CUDA 11 and later, before that the "
        "toolkit's own driver",
        needs=("cuda",),
        facts=("subdir", "nvidia", "wsl", "container"),
        form=cuda_version(
            "the CUDA version that the host's driver must be able to run; given to the solver as `__cuda`", "11.8"
        ),
        scope=GPU,
    ),
    Check(
        "gpu_code",
        _gpu_code,
        "for each GPU, whether every main library has machine code (SASS) for it, or PTX that the driver can "
        "compile; a warning for add-ons (flash-attn) that have neither",
        needs=("cuda", "gpu_code"),
        facts=("subdir", "nvidia", "wsl", "container"),
        scope=GPU,
    ),
    Check(
        "compute_capability",
        _capability,
        _STATED_ONLY,
        facts=("nvidia",),
        form=version("the compute capability of the GPU", ">=8.0"),
        scope=GPU,
    ),
    Check(
        "gpu_memory",
        _memory,
        _STATED_ONLY,
        facts=("nvidia",),
        form=size("the memory of one GPU", "24 GB"),
        scope=GPU,
    ),
    Check(
        "jit",
        _jit,
        "whether code compiled at run time may be too new for the driver, whether the compiler knows the GPU, and "
        "whether there is a C compiler for triton; a warning, see "
        "[Run-time compilation](#run-time-compilation)",
        needs=("cuda", "jit"),
        facts=("subdir", "nvidia", "wsl", "container", "c_compiler"),
        scope=GPU,
    ),
    Check(
        "cuda_compat",
        _cuda_compat,
        "whether libcuda is the driver's (else error 803), and whether the environment contains one of "
        "cuda-compat, which GeForce GPUs refuse (error 804)",
        needs=("cuda", "cuda_compat"),
        facts=("nvidia", "wsl"),
        scope=GPU,
    ),
    Check("rocm", _rocm, "whether there is a driver for AMD GPUs", ("rocm",), ("amd",), scope=GPU),
)
"""The checks of GPUs and their drivers, in display order."""
