"""The facts of a host, and their conversion to and from JSON, so that one machine can check for many hosts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Mapping, TypeVar

from envpack.runtime.errors import FormatError

T = TypeVar("T")

FACTS_FORMAT = 1
"""The version of the JSON format. Any other version is refused; unknown members of this version are ignored."""


@dataclass(frozen=True)
class Slice:
    """A MIG device: a part of a GPU that CUDA uses like a GPU. ``memory`` is in bytes, 0 when unknown."""

    name: str = ""
    uuid: str = ""
    memory: int = 0


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, in the order of its PCI address, as NVML lists it.

    Attributes:
        index: Its number in NVML's list.
        name: Its product name.
        uuid: Its UUID.
        compute_capability: Such as "8.6", "" when unknown.
        memory: In bytes, 0 when unknown.
        brand: In the words of NVIDIA_REQUIRE_CUDA, such as "tesla" or "geforce".
        mig: Whether MIG is on.
        slices: The MIG devices it is divided into.
        visible: Whether CUDA_VISIBLE_DEVICES lets CUDA see it, None when that is unknown.
        vgpu: Whether it is a vGPU in a guest system.
        licensed: Whether a vGPU has its licence, None when unknown.
        fabric: "" without an NVSwitch fabric, else "ready", "not started" or "in progress".
        error: The reason why it can't be used, as NVML reports it.
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
    """The NVIDIA driver and GPUs of a host.

    Attributes:
        state: A row of ``data/states.json``, which has its meaning and its remedy.
        driver: The version of the kernel module.
        cuda: The newest CUDA that libcuda supports, such as "12.4". With cuda-compat on the library path this is
            newer than the driver's own.
        libcuda: The version of libcuda.so.1, which should be the driver's; "" when its file's name has none.
        overridden: Whether CONDA_OVERRIDE_CUDA states the CUDA version.
        source: The source of the facts: "nvml", "nvidia-smi", "cuda" (cuInit), "proc" or "".
        error: NVML's error, with its number.
        devices: The GPUs.
        visible_devices: The value of CUDA_VISIBLE_DEVICES, None when unset.
        cuda_init: The result of cuInit: "0" for success, else the error with its number; "" when CUDA was not
            initialized.
    """

    state: str = "not-looked"
    driver: str = ""
    cuda: str = ""
    libcuda: str = ""
    overridden: bool = False
    source: str = ""
    error: str = ""
    devices: tuple[Gpu, ...] = ()
    visible_devices: str | None = None
    cuda_init: str = ""

    @property
    def problem(self) -> str:
        """Return the errors of NVML and cuInit with their numbers: "NVML: 999 Unknown Error"; "" for none."""
        started = self.cuda_init if self.cuda_init != "0" else ""
        parts = [f"{name}: {text}" for name, text in (("NVML", self.error), ("cuInit", started)) if text]
        return ", ".join(parts)


@dataclass(frozen=True)
class HostFacts:
    """The facts of a host.

    Attributes:
        hostname: The host's own name.
        system: The kernel's name of uname(2), such as "Linux".
        machine: The processor architecture of uname(2), such as "x86_64".
        subdir: conda's subdir, such as "linux-64".
        kernel: The release of the kernel.
        distribution: The distribution's name, "" when unknown.
        glibc: The version, "" for none (musl).
        cpu: The processor's name.
        cpu_level: Such as "x86-64-v3", "" when unknown or when the processor has no levels.
        cpus: The number of cores that this process may use.
        memory: The bytes of memory that this process may use.
        limited: Which of "cpus" and "memory" a cgroup limits.
        disk_path: The folder at which free space was measured.
        disk_free: The bytes that the user may still write there.
        container: The kind of container, such as "docker", "" for none.
        wsl: Whether this is the Windows Subsystem for Linux.
        amd: Whether ROCm's kernel driver is loaded.
        c_compiler: The C compiler that programs find, by CC or PATH; "" for none, None when it was not looked for.
        libraries: The shared libraries that the loader finds, and symbol versions that they define, in
            RPM's notation: "libstdc++.so.6", "libstdc++.so.6(GLIBCXX_3.4.30)"; None when they were not looked at.
        nvidia: The NVIDIA driver and GPUs.
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
    c_compiler: str | None = None
    libraries: tuple[str, ...] | None = None
    nvidia: Nvidia = Nvidia()


def facts_to_json(facts: HostFacts) -> dict[str, Any]:
    """Return the facts as a JSON object."""
    return {"format": FACTS_FORMAT, **asdict(facts)}


def facts_from_json(document: Any, where: str) -> HostFacts:
    """Return the facts in a JSON document; what it does not state is unknown.

    The output of ``envpack doctor --json`` is accepted too.

    Args:
        document: The parsed JSON.
        where: The source of the document, for messages.

    Raises:
        FormatError: The document holds no facts of a host, or has another format version.
    """
    facts = document
    for member in ("result", "facts"):
        if isinstance(facts, dict) and isinstance(facts.get(member), dict):
            facts = facts[member]
    if not isinstance(facts, dict) or "format" not in facts or "subdir" not in facts:
        raise FormatError(
            f"{where} does not contain the facts of a host",
            hint="Create it on that host: envpack doctor --json > facts.json",
        )
    if facts["format"] != FACTS_FORMAT:
        raise FormatError(
            f"{where}: facts of format {facts['format']!r}, but this version of envpack reads {FACTS_FORMAT}",
            hint="Create them with the same version of envpack.",
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
            libraries=_names(facts.get("libraries")),
            nvidia=_made(Nvidia, nvidia, devices=devices),
        )
    except (AttributeError, TypeError, ValueError) as problem:
        raise FormatError(f"{where}: not the facts of a host: {problem}") from None


def _names(value: Any) -> tuple[str, ...] | None:
    """Return a list of texts as a tuple; None for None."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"libraries is {value!r:.80}")
    return tuple(value)


def _made(kind: type[T], values: Mapping[str, Any], **read: Any) -> T:
    """Make a ``kind`` from a JSON object, with each plain value checked against the type of its field."""
    found = dict(read)
    for field in fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
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
