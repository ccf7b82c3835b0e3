"""A host in values: what `gather` found, as JSON and back, so that one machine can check for many."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Mapping, TypeVar

from envpack.runtime.errors import FormatError

T = TypeVar("T")

FACTS_FORMAT = 1
"""Of the JSON. A newer one is refused, unknown members of this one are ignored."""


@dataclass(frozen=True)
class Slice:
    """A MIG device: part of a GPU that CUDA takes for a GPU. ``memory``: bytes, 0 when unknown."""

    name: str = ""
    uuid: str = ""
    memory: int = 0


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, in the order of its PCI address, as NVML lists it.

    ``compute_capability``: such as "8.6"; ``memory``: bytes, 0 when unknown; ``brand``: in the words of
    NVIDIA_REQUIRE_CUDA, such as "tesla" or "geforce"; ``mig``: MIG is on, and ``slices`` what it is cut into;
    ``visible``: whether CUDA_VISIBLE_DEVICES lets CUDA see it, None when that can't be told; ``fabric``: "" where
    there is no NVSwitch fabric, else "ready", "not started" or "in progress"; ``licensed``: of a vGPU, None when
    unknown; ``error``: why it can't be used, as NVML says it.
    """

    index: int
    name: str = ""
    uuid: str = ""
    compute_capability: str = ""
    memory: int = 0
    brand: str = ""
    mig: bool = False
    slices: tuple[Slice, ...] = ()
    visible: bool | None = True
    vgpu: bool = False
    licensed: bool | None = None
    fabric: str = ""
    error: str = ""


@dataclass(frozen=True)
class Nvidia:
    """What there is of NVIDIA. ``state``: a row of data/states.json, which says what it means and what to do.

    ``driver``: version of the kernel module; ``cuda``: the newest CUDA that libcuda speaks, "12.4" (with
    cuda-compat on the library path more than the driver's own); ``overridden``: CONDA_OVERRIDE_CUDA says so;
    ``source``: who told: "nvml", "nvidia-smi", "proc" or ""; ``error``: what NVML said, with its number;
    ``visible_devices``: CUDA_VISIBLE_DEVICES, None when unset.
    """

    state: str = "not-looked"
    driver: str = ""
    cuda: str = ""
    overridden: bool = False
    source: str = ""
    error: str = ""
    devices: tuple[Gpu, ...] = ()
    visible_devices: str | None = None


@dataclass(frozen=True)
class HostFacts:
    """A host. ``subdir``: conda's, such as "linux-64"; ``glibc``: "" for none (musl); ``cpu_level``: such as
    "x86-64-v3", "" where there are none or it is unknown; ``cpus``: cores this process may use; ``memory``: bytes
    it may use, and ``limited``: which of "cpus" and "memory" a cgroup limits; ``disk_free``: bytes that the user
    may still write at ``disk_path``; ``container``: such as "docker", "" for none; ``amd``: whether ROCm's kernel
    driver is there.
    """

    hostname: str = ""
    system: str = ""
    machine: str = ""
    subdir: str = ""
    kernel: str = ""
    distribution: str = ""
    glibc: str = ""
    cpu: str = ""
    cpu_level: str = ""
    cpus: int = 0
    memory: int = 0
    limited: tuple[str, ...] = ()
    disk_path: str = ""
    disk_free: int = 0
    container: str = ""
    wsl: bool = False
    amd: bool = False
    nvidia: Nvidia = Nvidia()


def facts_to_json(facts: HostFacts) -> dict[str, Any]:
    """The facts as a JSON object."""
    return {"format": FACTS_FORMAT, **asdict(facts)}


def facts_from_json(document: Any, where: str) -> HostFacts:
    """Reads facts; what is not stated is unknown. Takes what ``envpack doctor --json`` prints as well.

    Raises FormatError, which names ``where`` they come from, for anything else.
    """
    facts = document
    for member in ("result", "facts"):
        if isinstance(facts, dict) and isinstance(facts.get(member), dict):
            facts = facts[member]
    if not isinstance(facts, dict) or "format" not in facts or "subdir" not in facts:
        raise FormatError(
            f"{where} holds no facts of a host",
            hint="Make it on that host: envpack doctor --json > facts.json",
        )
    if facts["format"] != FACTS_FORMAT:
        raise FormatError(
            f"{where}: facts of format {facts['format']!r}, and this envpack reads {FACTS_FORMAT}",
            hint="Make them with the same version of envpack.",
        )
    try:
        nvidia = facts.get("nvidia") or {}
        devices = tuple(
            _made(Gpu, item, slices=tuple(_made(Slice, part) for part in item.get("slices", ())))
            for item in nvidia.get("devices", ())
        )
        return _made(
            HostFacts,
            facts,
            limited=tuple(facts.get("limited", ())),
            nvidia=_made(Nvidia, nvidia, devices=devices),
        )
    except (AttributeError, TypeError, ValueError) as problem:
        raise FormatError(f"{where}: not the facts of a host: {problem}") from None


def _made(kind: type[T], values: Mapping[str, Any], **read: Any) -> T:
    """A ``kind`` from a JSON object, each plain value checked against the type of the field's default."""
    found = dict(read)
    for field in fields(kind):  # type: ignore[arg-type]  # they are all dataclasses
        name = field.name
        if name in read or name not in values:
            continue
        value = values[name]
        allowed = _ALLOWED[str(field.type)]
        if type(value) not in allowed or (type(value) is int and value < 0):
            raise ValueError(f"{name} is {value!r}")
        found[name] = value
    return kind(**found)


_ALLOWED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
    "str | None": (str, type(None)),
}
