"""What an environment needs of a host, found in its files when it was packed, with the evidence for each.

``envpack.prefix.needs`` derives it, the manifest carries it, ``envpack.runtime.host`` compares it with the host's
facts. The spec's ``requires:`` stands beside it and wins over it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class Evidence:
    """``value``, such as a version, because ``source`` says so: a path or a package, and what stands in it."""

    value: str
    source: str


@dataclass(frozen=True)
class Compiler:
    """A package that compiles for the GPU at run time: ``value`` its name, ``source`` as of `Evidence`.

    ``cuda``: the CUDA version its compiler is of, "" for that of the environment; ``ptx``: what it makes is PTX,
    which the driver has to compile, and not machine code.
    """

    value: str
    source: str
    cuda: str = ""
    ptx: bool = False


@dataclass(frozen=True)
class GpuCode:
    """The GPU code in one library.

    ``sass``: targets of machine code, such as "sm_90a"; ``ptx``: targets of PTX, such as "compute_90";
    ``ptx_isa``: the newest PTX ISA version in it, such as "8.5", or ""; ``main``: whether a GPU that it does not
    cover is of no use to the environment; ``stray``: targets that only few of its kernels were built for, which
    are not among the others and cover nothing.
    """

    library: str
    package: str
    sass: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    ptx_isa: str = ""
    main: bool = False
    stray: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """Everything derived. ``cuda``: the runtime the environment was built for, None for CPU-only and ROCm builds;
    ``cuda_all``: every piece of evidence seen; ``jit``: packages that compile for the GPU at run time;
    ``cuda_compat``: libraries of the forward-compatibility package inside, the driver's version as the value;
    ``cpu_builds``: frameworks that could use a GPU, in builds for none; ``cpu``: x86-64 microarchitecture
    level such as "x86-64-v3"; ``disk``: bytes of the deployment."""

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


def needs_to_json(needs: Needs) -> dict[str, Any]:
    """The manifest's ``needs`` member."""
    return asdict(needs)


def needs_from_json(document: Mapping[str, Any]) -> Needs:
    """The reverse; fields that are not there have their defaults, so that older bundles are read too.

    Raises KeyError, TypeError or ValueError for a malformed document; the caller says where it stood.
    """

    def one(name: str) -> Evidence | None:
        return _evidence(document[name]) if document.get(name) else None

    def many(name: str) -> tuple[Evidence, ...]:
        return tuple(_evidence(item) for item in document.get(name, ()))

    return Needs(
        cuda=one("cuda"),
        cuda_all=many("cuda_all"),
        rocm=one("rocm"),
        gpu_code=tuple(_gpu_code(item) for item in document.get("gpu_code", ())),
        jit=tuple(_compiler(item) for item in document.get("jit", ())),
        cuda_compat=many("cuda_compat"),
        glibc=one("glibc"),
        cpu=one("cpu"),
        disk=int(document.get("disk", 0)),
        cpu_builds=many("cpu_builds"),
    )


def _evidence(item: Mapping[str, Any]) -> Evidence:
    return Evidence(str(item["value"]), str(item["source"]))


def _compiler(item: Mapping[str, Any]) -> Compiler:
    return Compiler(
        str(item["value"]), str(item["source"]), cuda=str(item.get("cuda", "")), ptx=bool(item.get("ptx", False))
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
    )
