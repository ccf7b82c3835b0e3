"""Needs of all libraries together: the variant that is loaded, glibc, the CPU level, the main GPU code."""

from __future__ import annotations

import pytest

from envpack.prefix.needs.elf import Elf
from envpack.prefix.needs.evidence import CUDA, ROCM
from envpack.prefix.needs.fatbin import Targets
from envpack.prefix.needs.libraries import (
    Library,
    cpu_of_libraries,
    cpu_of_record,
    glibc_floor,
    gpu_code,
    not_loaded,
    unknown_markers,
    variants,
    without_variant,
)
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import Evidence

BNB = [
    f"site-packages/bitsandbytes/libbitsandbytes_{name}.so"
    for name in ("cpu", "cuda118", "cuda121", "cuda126", "cuda128", "cuda130", "rocm64", "rocm70", "xpu2026")
]


def bnb(name: str) -> str:
    return f"site-packages/bitsandbytes/libbitsandbytes_{name}.so"


def version(value: str) -> Evidence:
    return Evidence(value, "a test")


# --- one library of several ---


def test_libraries_for_several_platforms_and_versions_are_alternatives() -> None:
    (group,) = variants(
        [*BNB, "lib/libtorch_cuda.so", "lib/libonnxruntime_providers_cuda.so", "lib/libmagma_cuda126.so"]
    )
    assert group.stem == "site-packages/bitsandbytes/libbitsandbytes"
    assert group.versions(CUDA) == ["11.8", "12.1", "12.6", "12.8", "13.0"]
    assert bnb("cpu") not in group.by_version.values()


@pytest.mark.parametrize(
    ("cuda", "name"),
    [
        ("12.6", "cuda126"),
        ("12.9", "cuda128"),
        ("12.4", "cuda121"),
        ("12.0", "cuda121"),
        ("13.2", "cuda130"),
        ("12", "cuda121"),
    ],
)
def test_the_nearest_alternative_of_the_same_major_version_is_loaded(cuda: str, name: str) -> None:
    (group,) = variants(BNB)
    assert group.choice(CUDA, cuda) == bnb(name)


def test_alternatives_that_are_not_loaded_are_known() -> None:
    groups = variants(BNB)
    alternatives = set(BNB) - {bnb("cpu")}
    assert not_loaded(groups, version("12.6"), None) == alternatives - {bnb("cuda126")}
    assert not_loaded(groups, None, version("7.0")) == alternatives - {bnb("rocm70")}
    assert not_loaded(groups, None, None) == alternatives


def test_a_cuda_that_no_alternative_is_for_is_reported() -> None:
    groups = variants(path for path in BNB if "cuda13" not in path)
    assert without_variant(groups, version("12.9")) == []
    assert without_variant(groups, None) == []
    assert without_variant(groups, version("13.2")) == [
        "site-packages/bitsandbytes/libbitsandbytes* has libraries for CUDA 11.8, 12.1, 12.6, 12.8, "
        "but none for CUDA 13.2"
    ]


# --- glibc ---


def needing(path: str, *versions: str, isa_level: int = 0) -> Library:
    return Library(
        path, Elf("64", imports=tuple(("libc.so.6", version) for version in versions), isa_level=isa_level)
    )


def test_the_highest_glibc_over_all_files_is_the_floor_and_the_first_file_its_evidence() -> None:
    libraries = [
        needing("lib/b.so", "GLIBC_2.2.5", "GLIBC_2.28"),
        needing("lib/a.so", "GLIBC_2.28", "GLIBC_2.9"),
        needing("lib/c.so", "GLIBC_2.17", "GLIBC_PRIVATE", "GLIBCXX_3.4.30", "CXXABI_1.3.13"),
    ]
    assert glibc_floor(libraries) == Evidence("2.28", "lib/a.so needs GLIBC_2.28, and 1 more")


def test_numbers_are_compared_as_numbers() -> None:
    floor = glibc_floor([needing("a.so", "GLIBC_2.9", "GLIBC_2.10"), needing("b.so", "GLIBC_2.3.4")])
    assert floor is not None
    assert floor.value == "2.10"


def test_packed_relative_relocations_need_glibc_2_36() -> None:
    floor = glibc_floor([needing("a.so", "GLIBC_2.17", "GLIBC_ABI_DT_RELR")])
    assert floor == Evidence("2.36", "a.so needs GLIBC_ABI_DT_RELR")


def test_markers_without_a_version_are_distinguished() -> None:
    libraries = [needing("a.so", "GLIBC_2.17", "GLIBC_ABI_DT_RELR", "GLIBC_ABI_GNU2_TLS")]
    assert unknown_markers(libraries) == {"GLIBC_ABI_GNU2_TLS": "a.so"}


def test_without_glibc_there_is_no_floor() -> None:
    assert glibc_floor([]) is None
    assert glibc_floor([needing("musl.so"), needing("private.so", "GLIBC_PRIVATE")]) is None


# --- CPU ---


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        ("_x86_64-microarch-level >=3", "x86-64-v3"),
        ("_x86_64-microarch-level 4.*", "x86-64-v4"),
        ("__archspec 1 x86_64_v3", "x86-64-v3"),
        ("__archspec 1 haswell", "x86-64-v3"),
        ("__archspec 1.* *skylake_avx512*", "x86-64-v4"),
        ("__archspec=1=zen2", "x86-64-v3"),
        ("__archspec * nehalem", "x86-64-v2"),
    ],
)
def test_a_conda_package_for_newer_cpus_says_so(spec: str, level: str) -> None:
    package = Package("conda", "numpy", "2.2", "0", segment="conda:numpy-2.2-0")
    assert cpu_of_record(package, ["python", spec]) == Evidence(level, f"conda:numpy-2.2-0 depends on {spec}")


@pytest.mark.parametrize(
    "spec", ["_x86_64-microarch-level >=1", "__archspec 1 core2", "__archspec 1 m1", "__glibc >=2.17"]
)
def test_a_package_for_every_cpu_says_nothing(spec: str) -> None:
    assert cpu_of_record(Package("conda", "numpy", "2.2"), [spec]) is None


def test_the_level_of_the_machine_it_was_solved_on_is_no_need() -> None:
    level = Package("conda", "_x86_64-microarch-level", "4", "2_zen4")
    assert cpu_of_record(level, ["__archspec 1 zen4"]) is None


def test_the_highest_level_a_library_is_marked_with_counts() -> None:
    found = cpu_of_libraries(
        [needing("b.so", isa_level=3), needing("a.so", isa_level=3), needing("c.so", isa_level=1)]
    )
    assert found == Evidence("x86-64-v3", "a.so is marked so (GNU_PROPERTY_X86_ISA_1_NEEDED)")
    assert cpu_of_libraries([needing("c.so", isa_level=1)]) is None


# --- GPU code ---


def coded(path: str, package: str, size: int = 1000, *sass: str) -> Library:
    owner = Package("pypi", package, "1.0", segment=f"pypi:{package}-1.0")
    return Library(path, Elf("64"), owner, Targets(sass or ("sm_80",), size=size))


TORCH = coded("torch/lib/libtorch_cuda.so", "torch", 500)
LINALG = coded("torch/lib/libtorch_cuda_linalg.so", "torch", 90)
CUBLAS = coded("nvidia/cublas/lib/libcublas.so.12", "nvidia-cublas-cu12", 9000)
FLASH = coded("flash_attn_2_cuda.so", "flash-attn", 2000)


def main(
    libraries: list[Library], users: set[str], left_out: set[str] | None = None, *, cuda: bool = True
) -> list[str]:
    return [code.library for code in gpu_code(libraries, left_out or set(), frozenset(users), cuda) if code.main]


def test_a_framework_s_main_library_decides_whatever_else_is_larger() -> None:
    assert main([TORCH, LINALG, CUBLAS, FLASH], {"torch"}) == [TORCH.path]


def test_each_framework_has_its_main_library() -> None:
    tensorflow = coded("tensorflow/libtensorflow_cc.so.2", "tensorflow")
    assert main([TORCH, tensorflow], {"torch", "tensorflow"}) == [tensorflow.path, TORCH.path]
    assert main([TORCH, tensorflow], {"torch"}) == [TORCH.path]


def test_without_a_framework_the_library_with_the_most_code_decides_but_none_of_nvidia_s() -> None:
    assert main([CUBLAS, FLASH, coded("other.so", "other", 10)], {"flash-attn"}) == [FLASH.path]
    assert main([CUBLAS], set()) == []


def test_a_library_that_is_not_loaded_decides_nothing() -> None:
    old, new = coded(bnb("cuda118"), "bitsandbytes", 900), coded(bnb("cuda126"), "bitsandbytes", 100)
    assert main([old, new], {"bitsandbytes"}, {old.path}) == [new.path]


def test_without_cuda_nothing_decides_but_everything_is_listed() -> None:
    """xgboost's library has GPU code, and is used without a GPU."""
    xgboost = coded("xgboost/lib/libxgboost.so", "xgboost")
    assert main([xgboost], set(), cuda=False) == []
    assert [code.library for code in gpu_code([xgboost], set(), frozenset(), False)] == [xgboost.path]


def test_libraries_without_code_are_not_listed() -> None:
    empty = Library("libc10_cuda.so", Elf("64"), None, Targets())
    assert gpu_code([empty, Library("libc10.so", Elf("64"))], set(), frozenset(), True) == []


def test_what_is_known_of_a_library_is_passed_on() -> None:
    targets = Targets(("sm_80",), ("compute_80", "compute_90"), "8.5", ("sm_90a",), 10, ("8.0", "8.5"))
    (code,) = gpu_code([Library("x.so", Elf("64"), None, targets)], set(), frozenset(), True)
    assert (code.package, code.sass) == ("", ("sm_80",))
    assert (code.ptx, code.ptx_isa, code.ptx_isas) == (("compute_80", "compute_90"), "8.5", ("8.0", "8.5"))
    assert (code.stray, code.main) == (("sm_90a",), True)


def test_rocm_s_alternatives_are_chosen_by_rocm_s_version() -> None:
    (group,) = variants(BNB)
    assert group.choice(ROCM, "6.2") == bnb("rocm64")
    assert group.choice(ROCM, "8.0") == ""


def test_add_ons_are_neither_main_nor_nvidia_s_nor_variants_that_are_not_loaded() -> None:
    libraries = [
        coded("torch/lib/libtorch_cuda.so", "torch"),
        coded("flash_attn_2_cuda.so", "flash-attn"),
        coded("nvidia/cublas/lib/libcublas.so.12", "nvidia-cublas-cu12"),
        coded("bitsandbytes/libbitsandbytes_cuda118.so", "bitsandbytes"),
    ]
    found = gpu_code(libraries, {libraries[3].path}, frozenset({"torch"}), True)
    assert [code.library for code in found if code.addon] == ["flash_attn_2_cuda.so"]
    assert not any(code.addon for code in gpu_code(libraries, set(), frozenset(), False))
