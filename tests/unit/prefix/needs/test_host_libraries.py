"""The libraries that an environment needs of the host, and its own libraries that are too old."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envpack.prefix.needs.elf import Elf
from envpack.prefix.needs.host_libraries import host_libraries, newest_versions
from envpack.prefix.needs.libraries import Library, is_main
from envpack.runtime.format.needs import HostLibrary

SITE = "lib/python3.11/site-packages"


def library(path: str, *needed: str, **fields: object) -> Library:
    return Library(path, replace(Elf("64", needed=needed), **fields))  # type: ignore[arg-type]


def found(*libraries: Library, files: tuple[str, ...] = (), main: str = "") -> list[HostLibrary]:
    paths = (*files, *(item.path for item in libraries))
    return host_libraries(libraries, paths, "/opt/env", lambda path: path == main)


def test_what_is_nowhere_in_the_environment_is_left_to_the_host() -> None:
    first = library(f"{SITE}/cv2/cv2.abi3.so", "libGL.so.1", "libc.so.6", "libm.so.6", "libcuda.so.1")
    second = library("bin/viewer", "libGL.so.1")
    assert found(first, second) == [HostLibrary("libGL.so.1", f"{SITE}/cv2/cv2.abi3.so, and 1 more")]
    assert found(first, second, main="bin/viewer")[0].main


@pytest.mark.parametrize("place", ["lib", f"{SITE}/nvidia/cublas/lib", "lib/private"])
def test_a_library_or_a_link_to_it_anywhere_in_the_environment_counts(place: str) -> None:
    user = library(f"{SITE}/x.so", "libcublas.so.12")
    assert found(user, files=(f"{place}/libcublas.so.12",)) == []
    assert found(user, library(f"{place}/libcublas-1a2b.so", soname="libcublas.so.12")) == []


def test_plugins_that_are_optional_by_design_need_nothing() -> None:
    tensorrt = f"{SITE}/onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
    (left,) = found(library(tensorrt, "libnvinfer.so.10", "libother.so.1"))
    assert left.value == "libother.so.1"
    assert found(library(f"{SITE}/PyQt6/Qt6/plugins/sqldrivers/libqsqlpsql.so", "libpq.so.5")) == []
    assert found(library(f"{SITE}/nvidia/nvshmem/lib/nvshmem_transport_ucx.so.3", "libucs.so.0")) == []


def test_versions_are_those_of_the_series_that_are_newest() -> None:
    versions = ["GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3", "CXXABI_1.3.13", "PRIVATE"]
    assert newest_versions(versions) == ("CXXABI_1.3.13", "GLIBCXX_3.4.30", "PRIVATE")
    imports = tuple(("libstdc++.so.6", version) for version in versions[:2])
    (left,) = found(library("bin/x", "libstdc++.so.6", imports=(*imports, ("libc.so.6", "GLIBC_2.17"))))
    assert (left.versions, left.inside) == (("GLIBCXX_3.4.30",), "")


OLD = {"soname": "libstdc++.so.6", "defines": ("GLIBCXX_3.4.29",)}
NEW = {"soname": "libstdc++.so.6", "defines": ("GLIBCXX_3.4.29", "GLIBCXX_3.4.30")}
WANTS = {"imports": (("libstdc++.so.6", "GLIBCXX_3.4.30"),)}


@pytest.mark.parametrize(
    ("run_path", "inside"),
    [
        ("", "lib/libstdc++.so.6"),
        ("$ORIGIN/../x.libs", ""),
        ("${ORIGIN}/../x.libs:/usr/lib", ""),
        (f"/opt/env/{SITE}/x.libs", ""),
        ("/elsewhere/x.libs", "lib/libstdc++.so.6"),
    ],
)
def test_versions_are_compared_with_the_library_that_is_found_first(run_path: str, inside: str) -> None:
    """The loader takes RPATH or RUNPATH, then the interpreter's folder; links count as what they lead to."""
    libraries = [
        library(f"{SITE}/x/x.so", "libstdc++.so.6", runpath=run_path, **WANTS),
        library("lib/libstdc++.so.6.0.29", **OLD),
        library(f"{SITE}/x.libs/libstdc++.so.6", **NEW),
    ]
    left = found(*libraries, files=("lib/libstdc++.so.6",))
    assert [item.inside for item in left] == ([inside] if inside else [])


def test_a_library_without_versions_defines_every_version() -> None:
    assert found(library("bin/x", "libstdc++.so.6", **WANTS), library("lib/libstdc++.so.6")) == []


def test_main_is_what_nothing_runs_without() -> None:
    torch = frozenset({"torch", "onnxruntime"})
    assert is_main("lib/libpython3.11.so.1.0", frozenset())
    assert is_main(f"{SITE}/torch/lib/libtorch_cuda.so", torch)
    assert not is_main(f"{SITE}/torch/lib/libtorch_cuda.so", frozenset())
    assert not is_main(f"{SITE}/onnxruntime/capi/libonnxruntime_providers_cuda.so", torch)


def test_what_a_main_library_is_linked_to_is_main_too() -> None:
    """libtorch_cuda.so is linked to libtorch_cpu.so, which does not load without libcupti.so.13."""
    lib = f"{SITE}/torch/lib"
    cuda = library(f"{lib}/libtorch_cuda.so", "libtorch_cpu.so", "libshared.so.1")
    cpu = library(f"{lib}/libtorch_cpu.so", "libcupti.so.13", "libtorch_cuda.so")
    linked = library("lib/libshared.so.1.2", "libz.so.1", soname="libshared.so.1")
    plugin = library(f"{lib}/libtorch_nvshmem.so", "libnvshmem_host.so.3")
    left = found(cuda, cpu, linked, plugin, files=("lib/libshared.so.1",), main=cuda.path)
    assert [(item.value, item.main) for item in left] == [
        ("libcupti.so.13", True),
        ("libnvshmem_host.so.3", False),
        ("libz.so.1", True),
    ]


def test_of_files_for_one_abi_each_one_must_load() -> None:
    mpich = library(f"{SITE}/mpi4py/MPI.mpich.cpython-311-x86_64-linux-gnu.so", "libmpi.so.12")
    openmpi = library(f"{SITE}/mpi4py/MPI.openmpi.cpython-311-x86_64-linux-gnu.so", "libmpi.so.40")
    (left,) = found(openmpi, mpich)
    assert left == HostLibrary("libmpi.so.12", f"{mpich.path}, and 1 more", alternatives=("libmpi.so.40",))
    assert found(mpich, openmpi, files=("lib/libmpi.so.12",)) == []
    assert found(mpich, openmpi, files=("lib/libmpi.so.40",)) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{SITE}/OpenMM.libs/lib/plugins/libOpenMMOpenCL.so", "libOpenCL.so.1"),
        (f"{SITE}/openvino/libs/libopenvino_intel_gpu_plugin.so", "libOpenCL.so.1"),
        (f"{SITE}/deploy_libs/_hashlib.cpython-311-x86_64-linux-gnu.so", "libcrypto.so.3"),
        (f"{SITE}/daal4py/mpi_transceiver.cpython-311-x86_64-linux-gnu.so", "libmpi.so.12"),
        ("lib/mpich/libfabric/libefa-fi.so", "libefa.so.1"),
        ("lib/mpich/ucx/libuct_ib_mlx5.so.0", "libmlx5.so.1"),
        ("lib/libur_adapter_level_zero.so.0.12.0", "libsvml.so"),
    ],
)
def test_what_is_loaded_on_demand_is_no_need_of_the_host(path: str, name: str) -> None:
    assert found(library(path, name)) == []
    assert found(library(f"{SITE}/other.so", name)) != []


def chain(kind: str, of_b: str = "") -> list[Library]:
    """Return a program that loads a/liba.so with a search path; that loads b/libb.so, which wants NEW."""
    return [
        library("bin/x", "liba.so", rpath="$ORIGIN/../a"),
        library("a/liba.so", "libb.so", **{kind: "$ORIGIN/../b:$ORIGIN/../libs"}),
        library("b/libb.so", "libstdc++.so.6", runpath=of_b, **WANTS),
    ]


def test_the_search_path_of_what_loads_a_library_is_searched_for_it_too() -> None:
    """DT_RPATH is, up to a library with DT_RUNPATH; DT_RUNPATH is not (ld.so(8))."""
    near, lib = library("libs/libstdc++.so.6", **NEW), library("lib/libstdc++.so.6", **OLD)
    assert found(*chain("rpath"), near, lib) == []
    for graph in (chain("runpath"), chain("rpath", "$ORIGIN")):
        assert [item.inside for item in found(*graph, near, lib)] == [lib.path]
    near, lib = library("libs/libstdc++.so.6", **OLD), library("lib/libstdc++.so.6", **NEW)
    assert [item.inside for item in found(*chain("rpath"), near, lib)] == [near.path]
    assert found(*chain("runpath"), near, lib) == []


def test_a_library_that_is_loaded_already_is_used_whatever_the_search_path() -> None:
    first = library("bin/x", "libstdc++.so.6", "libb.so", runpath="$ORIGIN/../libs:$ORIGIN/../b")
    user = library("b/libb.so", "libstdc++.so.6", runpath="$ORIGIN", **WANTS)
    for own, before, old in ((OLD, NEW, []), (NEW, OLD, ["libs/libstdc++.so.6"])):
        copies = library("b/libstdc++.so.6", **own), library("libs/libstdc++.so.6", **before)
        assert [item.inside for item in found(first, user, *copies)] == old
    second = library("bin/y", "libb.so", rpath="$ORIGIN/../b")
    assert found(first, second, user, *copies) == []  # for one of the programs it is new enough
