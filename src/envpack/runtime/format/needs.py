"""The needs of an environment that were detected in its files when it was packed, each with its evidence.

``envpack.prefix.needs`` derives them, the manifest carries them, and ``envpack.runtime.host`` compares them with
the facts of the host. The spec's ``requires:`` can raise them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Callable, Mapping


@dataclass(frozen=True)
class Evidence:
    """A detected value and its source.

    Attributes:
        value: what was detected, such as a version.
        source: the path or package it was detected in, and what it contains.
    """

    value: str
    source: str


@dataclass(frozen=True)
class Compiler:
    """A package that compiles for the GPU at run time.

    Attributes:
        value: name of the package.
        source: as in `Evidence`.
        cuda: the CUDA version of its compiler; "" for the version of the environment.
        ptx: whether it makes PTX, which the driver has to compile, instead of machine code.
        targets: the GPUs that the compiler knows, such as "90a"; empty when unknown.
        least: the compute capability from which on it is used, "" for every GPU that no other one is used for.
        c_compiler: whether it needs a C compiler of the host: the environment contains none.
    """

    value: str
    source: str
    cuda: str = ""
    ptx: bool = False
    targets: tuple[str, ...] = ()
    least: str = ""
    c_compiler: bool = False


@dataclass(frozen=True)
class GpuCode:
    """The GPU code in one library.

    Attributes:
        library: path of the library.
        package: the package that the library belongs to.
        sass: targets of machine code, such as "sm_90a".
        ptx: targets of PTX, such as "compute_90".
        ptx_isa: the newest PTX ISA version in the library, such as "8.5", or "".
        main: whether the environment can't use a GPU that this library does not cover.
        stray: targets that only few kernels were built for; they are not in ``sass`` or ``ptx`` and cover nothing.
        addon: whether it is loaded in addition to the main ones: neither NVIDIA's nor a variant for another CUDA.
        ptx_isas: the newest PTX ISA version of each target in ``ptx``, in its order; empty if all are ``ptx_isa``.
    """

    library: str
    package: str
    sass: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    ptx_isa: str = ""
    main: bool = False
    stray: tuple[str, ...] = ()
    addon: bool = False
    ptx_isas: tuple[str, ...] = ()

    def isa(self, target: str) -> str:
        """Return the PTX ISA version of a target in ``ptx``, "" when unknown."""
        return dict(zip(self.ptx, self.ptx_isas)).get(target, self.ptx_isa)


@dataclass(frozen=True)
class HostLibrary:
    """A library that files of the environment are linked to and that is not in it.

    Attributes:
        value: its SONAME, such as "libGL.so.1".
        source: the first file that needs it, and how many more do.
        versions: the newest symbol version that is needed of each series, such as "GLIBCXX_3.4.30".
        main: whether the interpreter or a main library of a framework needs it: without it nothing runs.
        inside: path of the library in the environment that does not define ``versions``; "" for one of the host.
        alternatives: other libraries that are enough in its place, such as that of another MPI.
    """

    value: str
    source: str
    versions: tuple[str, ...] = ()
    main: bool = False
    inside: str = ""
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectedNeeds:
    """All detected needs of an environment.

    Attributes:
        cuda: the CUDA runtime the environment was built for; None for CPU-only and ROCm builds.
        cuda_all: all evidence found for the CUDA runtime.
        rocm: the ROCm version the environment was built for; None for CPU-only and CUDA builds.
        gpu_code: the GPU code of each library that has any.
        jit: packages that compile for the GPU at run time.
        cuda_compat: libraries of the forward-compatibility package in the environment, with the version of the
            driver as the value.
        glibc: the oldest glibc that its libraries can be loaded with.
        cpu: x86-64 microarchitecture level, such as "x86-64-v3".
        disk: bytes of the deployment.
        cpu_builds: frameworks that could use a GPU, but are built without GPU support.
        libraries: libraries that the host must have, and libraries of the environment that are too old.
    """

    cuda: Evidence | None = None
    cuda_all: tuple[Evidence, ...] = ()
    rocm: Evidence | None = None
    gpu_code: tuple[GpuCode, ...] = ()
    jit: tuple[Compiler, ...] = ()
    cuda_compat: tuple[Evidence, ...] = ()
    glibc: Evidence | None = None
    cpu: Evidence | None = None
    disk: int = 0
    cpu_builds: tuple[Evidence, ...] = ()
    libraries: tuple[HostLibrary, ...] = ()


def needs_to_json(needs: DetectedNeeds) -> dict[str, Any]:
    """Return the manifest's ``needs`` member."""
    return asdict(needs)


def needs_from_json(document: Mapping[str, Any]) -> DetectedNeeds:
    """Return the needs that ``document`` describes, the inverse of `needs_to_json`.

    Missing fields have their defaults, so that older bundles can be read too.

    Raises:
        KeyError, TypeError, ValueError: the document is malformed; the caller adds its path.
    """
    if not isinstance(document, Mapping):
        raise TypeError("not an object")
    known = [field for field in fields(DetectedNeeds) if field.name in document]
    return DetectedNeeds(**{field.name: _READERS[str(field.type)](document[field.name]) for field in known})


def _evidence(item: Mapping[str, Any]) -> Evidence:
    return Evidence(str(item["value"]), str(item["source"]))


def _compiler(item: Mapping[str, Any]) -> Compiler:
    return Compiler(
        str(item["value"]),
        str(item["source"]),
        cuda=str(item.get("cuda", "")),
        ptx=bool(item.get("ptx", False)),
        targets=tuple(str(target) for target in item.get("targets", ())),
        least=str(item.get("least", "")),
        c_compiler=bool(item.get("c_compiler", False)),
    )


def _gpu_code(item: Mapping[str, Any]) -> GpuCode:
    return GpuCode(
        library=str(item["library"]),
        package=str(item["package"]),
        sass=tuple(str(target) for target in item.get("sass", ())),
        ptx=tuple(str(target) for target in item.get("ptx", ())),
        ptx_isa=str(item.get("ptx_isa", "")),
        main=bool(item.get("main", False)),
        stray=tuple(str(target) for target in item.get("stray", ())),
        addon=bool(item.get("addon", False)),
        ptx_isas=tuple(str(version) for version in item.get("ptx_isas", ())),
    )


def _library(item: Mapping[str, Any]) -> HostLibrary:
    return HostLibrary(
        str(item["value"]),
        str(item["source"]),
        versions=tuple(str(version) for version in item.get("versions", ())),
        main=bool(item.get("main", False)),
        inside=str(item.get("inside", "")),
        alternatives=tuple(str(name) for name in item.get("alternatives", ())),
    )


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "Evidence | None": lambda item: _evidence(item) if item else None,
    "tuple[Evidence, ...]": lambda items: tuple(map(_evidence, items)),
    "tuple[Compiler, ...]": lambda items: tuple(map(_compiler, items)),
    "tuple[GpuCode, ...]": lambda items: tuple(map(_gpu_code, items)),
    "tuple[HostLibrary, ...]": lambda items: tuple(map(_library, items)),
    "int": int,
}
"""Readers of the fields of `DetectedNeeds`, by type."""
