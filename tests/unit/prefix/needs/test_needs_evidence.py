"""Evidence of CUDA and ROCm in names, versions, build strings and files, as they are really published."""

from __future__ import annotations

import pytest

from envpack.prefix.needs.elf import read_elf
from envpack.prefix.needs.evidence import (
    CPU,
    CUDA,
    ROCM,
    cuda_version,
    cudart_version,
    framework_file,
    from_file,
    from_library,
    from_package,
    from_record,
)
from envpack.prefix.needs.rules import family, is_toolkit, rank, table
from envpack.runtime.format.manifest import Package
from support.gpu_files import elf


def wheel(name: str, version: str = "1.0") -> Package:
    return Package("pypi", name, version, segment=f"pypi:{name}-{version}")


def conda(name: str, version: str = "1.0", build: str = "0") -> Package:
    return Package("conda", name, version, build, segment=f"conda:{name}-{version}-{build}")


def said(package: Package) -> list[tuple[str, str, str]]:
    return [(finding.platform, finding.value, finding.rule) for finding in from_package(package)]


@pytest.mark.parametrize(
    ("digits", "minor", "version"),
    [
        ("126", "", "12.6"),
        ("118", "", "11.8"),
        ("132", "", "13.2"),
        ("12", "", "12"),
        ("12", "4", "12.4"),
        ("92", "", "9.2"),
        ("102", "", "10.2"),
        ("999", "", ""),
        ("55", "", ""),
    ],
)
def test_digits_in_names_are_versions(digits: str, minor: str, version: str) -> None:
    assert cuda_version(digits, minor) == version


# --- files ---

TORCH = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'e2d141dbde55c2a4370fac5165b0561b6af4798b'
hip: Optional[str] = {hip}
{rest}"""


def torch(version: str, cuda: str = "None", hip: str = "None", rest: str = "") -> str:
    return TORCH.format(version=version, cuda=cuda, hip=hip, rest=rest)


@pytest.mark.parametrize(
    ("text", "platform", "value"),
    [
        (torch("2.7.1+cu126", "'12.6'"), CUDA, "12.6"),
        (
            torch("2.15.0+cu132", "'13.2'", rest="rocm: Optional[str] = None\nxpu: Optional[str] = None\n"),
            CUDA,
            "13.2",
        ),
        (torch("2.5.1", "'12.6'"), CUDA, "12.6"),
        (
            "__version__ = '1.13.1+cu117'\ndebug = False\ncuda = '11.7'\ngit_version = 'x'\nhip = None\n",
            CUDA,
            "11.7",
        ),
        ("__version__ = '1.8.0+cu102'\n", CUDA, "10.2"),
        (torch("2.13.0+cpu", rest="rocm: Optional[str] = None\n"), CPU, ""),
        (torch("2.5.1"), CPU, ""),
        (torch("2.3.0.dev20240308+rocm6.0", hip="'6.0.32830-d62f6a171'"), ROCM, "6.0"),
        (torch("2.4.1+rocm6.1", hip="'6.1.40091-a8dbc0c19'"), ROCM, "6.1"),
        (torch("2.13.0+rocm10.0.0", hip="'7.15.26333'", rest="rocm: Optional[str] = '10.0.0'\n"), ROCM, "10.0"),
        (torch("2.6.0", hip="'6.2.41134'"), ROCM, "6.2"),
    ],
)
def test_torch_says_what_it_was_built_for(text: str, platform: str, value: str) -> None:
    finding = from_file("lib/python3.11/site-packages/torch/version.py", text)
    assert finding is not None
    assert (finding.platform, finding.value, finding.family, finding.rule) == (
        platform,
        value,
        "torch",
        "framework-file",
    )


def test_the_line_that_decided_is_quoted() -> None:
    finding = from_file("lib/python3.11/site-packages/torch/version.py", torch("2.7.1+cu126", "'12.6'"))
    assert finding is not None
    assert finding.source == "lib/python3.11/site-packages/torch/version.py: cuda: Optional[str] = '12.6'"


TENSORFLOW = (
    "import collections\n\nbuild_info = collections.OrderedDict([('cpu_compiler', 'clang'), "
    "('cuda_compute_capabilities', ['sm_60', 'sm_70', 'sm_80', 'sm_89', 'compute_90']), "
    "('cuda_version', '12.5.1'), ('cudnn_version', '9'), ('is_cuda_build', True), ('is_rocm_build', False), "
    "('is_tensorrt_build', False)])"
)


def test_tensorflow_says_it_and_counts_beside_a_runtime_only() -> None:
    finding = from_file("lib/python3.11/site-packages/tensorflow/python/platform/build_info.py", TENSORFLOW)
    assert finding is not None
    assert (finding.platform, finding.value, finding.optional) == (CUDA, "12.5", True)


@pytest.mark.parametrize(
    ("path", "text", "platform", "value"),
    [
        (
            "tensorflow/python/platform/build_info.py",
            "build_info = collections.OrderedDict([('is_cuda_build', False), ('is_rocm_build', False)])",
            CPU,
            "",
        ),
        (
            "tensorflow/python/platform/build_info.py",
            'build_info = {"is_cuda_build": False, "is_rocm_build": True, "rocm_version": "5.7"}',
            ROCM,
            "",
        ),
        (
            "onnxruntime/capi/build_and_package_info.py",
            "package_name = 'onnxruntime-gpu'\n__version__ = '1.31.1'\ncuda_version = '13.0'\n",
            CUDA,
            "13.0",
        ),
        (
            "onnxruntime/capi/build_and_package_info.py",
            "package_name = 'onnxruntime'\n__version__ = '1.20.1'\n",
            CPU,
            "",
        ),
        ("paddle/version/__init__.py", "full_version = '2.5.2'\ncuda_version    = '11.2'\n", CUDA, "11.2"),
        ("paddle/version/__init__.py", "hip_version      = None\ncuda_version     = 'False'\n", CPU, ""),
    ],
)
def test_other_frameworks_say_it_too(path: str, text: str, platform: str, value: str) -> None:
    finding = from_file(f"lib/python3.11/site-packages/{path}", text)
    assert finding is not None
    assert (finding.platform, finding.value) == (platform, value)


def test_files_that_only_look_like_a_framework_s_are_left_alone() -> None:
    assert framework_file("lib/python3.11/site-packages/mytorch/version.py") is None
    assert framework_file("lib/python3.11/site-packages/torchvision/version.py") is None
    assert from_file("lib/python3.11/site-packages/torch/version.py", "nothing of the kind") is None


# --- names and versions ---


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (wheel("cupy-cuda12x", "14.2.0"), (CUDA, "12", "cuda-in-name")),
        (wheel("cupy_cuda11x", "13.0.0"), (CUDA, "11", "cuda-in-name")),
        (wheel("cupy-cuda102", "12.3.0"), (CUDA, "10.2", "cuda-in-name")),
        (wheel("cupy-rocm-5-0", "13.0.0"), (ROCM, "5.0", "cuda-in-name")),
        (wheel("jax-cuda12-plugin", "0.10.2"), (CUDA, "12", "cuda-in-name")),
        (wheel("jax-cuda13-pjrt", "0.12.0"), (CUDA, "13", "cuda-in-name")),
        (wheel("jax-rocm60-plugin", "0.4.35"), (ROCM, "6.0", "cuda-in-name")),
        (wheel("jax-rocm7-plugin", "0.6.0"), (ROCM, "7", "cuda-in-name")),
        (wheel("cudf-cu12", "25.2.0"), (CUDA, "12", "cuda-in-name")),
        (wheel("spconv-cu120", "2.3.6"), (CUDA, "12.0", "cuda-in-name")),
        (wheel("mxnet-cu112", "1.9.1"), (CUDA, "11.2", "cuda-in-name")),
        (conda("dgl-cuda11.7", "1.1.0", "py310_0"), (CUDA, "11.7", "cuda-in-name")),
        (wheel("pytorch-triton-rocm", "3.1.0"), (ROCM, "", "cuda-in-name")),
        (wheel("torchvision", "0.22.1+cu126"), (CUDA, "12.6", "local-version")),
        (wheel("flash-attn", "2.7.0.post2+cu12torch2.5cxx11abiFALSE"), (CUDA, "12", "local-version")),
        (wheel("torch-scatter", "2.1.2+pt24cu124"), (CUDA, "12.4", "local-version")),
        (wheel("auto-gptq", "0.7.1+cu118"), (CUDA, "11.8", "local-version")),
        (wheel("torchaudio", "2.4.1+rocm6.1"), (ROCM, "6.1", "local-version")),
        (wheel("torchaudio", "2.4.1+cpu"), (CPU, "", "local-version")),
        (conda("pytorch", "2.6.0", "cuda126_generic_py311_h1234567_200"), (CUDA, "12.6", "conda-build")),
        (conda("pytorch", "2.1.0", "py3.10_cuda11.8_cudnn8.7.0_0"), (CUDA, "11.8", "conda-build")),
        (conda("pytorch", "2.1.0", "cuda118py311h91fbe95_301"), (CUDA, "11.8", "conda-build")),
        (conda("jaxlib", "0.6.0", "cuda126py310h6b9bd21_200"), (CUDA, "12.6", "conda-build")),
        (conda("cudf", "24.02.00", "cuda12_py310_240212_g95aa0fb_0"), (CUDA, "12", "conda-build")),
        (conda("tensorflow", "2.18.0", "gpu_cuda124py312h1f2b2a6_0"), (CUDA, "12.4", "conda-build")),
        (conda("pytorch", "2.4.0", "py3.10_cpu_0"), (CPU, "", "conda-build")),
        (conda("pytorch", "2.5.1", "cpu_generic_py311_h1234567_3"), (CPU, "", "conda-build")),
        (conda("cuda-version", "12.6", "h7480c83_3"), (CUDA, "12.6", "conda-runtime")),
        (conda("cudatoolkit", "11.8.0", "h4ba93d1_13"), (CUDA, "11.8", "conda-runtime")),
        (conda("cuda-cudart", "12.6.77", "h5888daf_0"), (CUDA, "12.6", "conda-runtime")),
        (conda("pytorch-cuda", "11.8", "h7e8668a_5"), (CUDA, "11.8", "conda-runtime")),
        (wheel("nvidia-cuda-runtime-cu12", "12.6.77"), (CUDA, "12.6", "wheel-runtime")),
        (wheel("nvidia_cuda_runtime_cu11", "11.8.89"), (CUDA, "11.8", "wheel-runtime")),
        (wheel("nvidia-cuda-runtime", "13.0.96"), (CUDA, "13.0", "wheel-runtime")),
        (wheel("cuda-toolkit", "13.2.2"), (CUDA, "13.2", "wheel-runtime")),
        (wheel("nvidia-nccl-cu12", "2.26.2"), (CUDA, "12", "wheel-library")),
        (wheel("nvidia-cudnn-cu13", "9.26.0.51"), (CUDA, "13", "wheel-library")),
        (wheel("tensorrt-cu12", "10.7.0"), (CUDA, "12", "wheel-library")),
    ],
    ids=lambda value: value.segment if isinstance(value, Package) else None,
)
def test_a_published_package_says_what_it_is_for(package: Package, expected: tuple[str, str, str]) -> None:
    assert said(package) == [expected]


@pytest.mark.parametrize(
    "package",
    [
        wheel("numpy", "2.2.6"),
        wheel("nvidia-ml-py", "13.615.71"),
        wheel("cu2qu", "1.6.7"),
        wheel("docutils", "0.21"),
        wheel("faiss-gpu", "1.7.2"),
        wheel("nvidia-cuda-runtime", "0.0.1"),
        wheel("torch", "2.15.0"),
        conda("numpy", "2.2.6", "py311h5d046bc_0"),
        conda("libcublas", "12.6.4.1", "h9ab20c4_1"),
        conda("libllvm15", "15.0.7", "ha7bfdaf_4"),
        conda("cpuonly", "2.0", "0"),
        conda("cpu_features", "0.9.0", "h59595ed_1"),
    ],
    ids=lambda package: package.segment,
)
def test_other_packages_say_nothing(package: Package) -> None:
    assert said(package) == []


# --- conda's dependencies ---


def depends(package: Package, *specs: str, constrains: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(finding.value, finding.rule) for finding in from_record(package, specs, constrains)]


def test_what_a_conda_package_was_linked_with_is_reported_once() -> None:
    specs = ("__cuda", "cuda-cudart >=12.6.77,<13.0a0", "cuda-version >=12.6,<13", "cudnn >=9.8.0.87,<10.0a0")
    assert depends(conda("gromacs"), *specs) == [("12.6", "conda-depends")]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("cudatoolkit >=11.2,<12", "11.2"),
        ("cudatoolkit 11.8.*", "11.8"),
        ("pytorch-cuda >=11.8,<11.9", "11.8"),
        ("cuda-version >=12,<13", "12"),
        ("cuda-cudart >=12.6.77,<13.0a0", "12.6"),
    ],
)
def test_the_lower_bound_counts(spec: str, value: str) -> None:
    assert depends(conda("x"), spec) == [(value, "conda-depends")]


def test_a_required_driver_is_no_evidence_of_built_code() -> None:
    assert depends(conda("x"), "__cuda >=12.8", "python >=3.11") == [("12.8", "conda-driver")]
    found = depends(conda("cuda-version", "12.9"), constrains=("cudatoolkit 12.9|12.9.*", "__cuda >=12"))
    assert found == [("12", "conda-driver")]


def test_constraints_on_what_need_not_be_there_say_nothing() -> None:
    """numba is for CPUs too: it only says which CUDA it works with where there is one."""
    assert depends(conda("numba"), "python >=3.11", constrains=("cudatoolkit >=11.2", "cuda-version >=11.2")) == []


def test_upper_bounds_and_nvidia_s_own_libraries_say_nothing() -> None:
    assert depends(conda("x"), "cuda-version <13") == []
    assert depends(conda("libcublas"), "cuda-version >=12.6,<12.7.0a0") == []


# --- libraries ---


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("libcudart.so.12", "12"),
        ("libcudart.so.13", "13"),
        ("libcudart.so.11.0", "11"),
        ("libcudart.so.10.2", "10.2"),
        ("libcudart.so.12.4.127", "12.4"),
        ("libcudart.so.11.8.89", "11.8"),
        ("libcudart-9335f6a2.so.12", "12"),
        ("libcudart.45e7f3ed.so.12", "12"),
        ("libcudart.so", ""),
        ("libcusparse.so.12", ""),
        ("libcudart_static.a", ""),
    ],
)
def test_the_name_of_a_runtime_says_its_version(name: str, version: str) -> None:
    assert cudart_version(name) == version


def library(path: str, package: Package | None = None, **contents: object) -> list[tuple[str, str, str]]:
    made = read_elf(elf(**contents))  # type: ignore[arg-type]
    assert made is not None
    return [(finding.platform, finding.value, finding.rule) for finding in from_library(path, made, package)]


def test_only_the_runtime_s_version_is_cuda_s() -> None:
    """torch for CUDA 13.2 needs libcusparse.so.12 and libcufft.so.12."""
    needed = ["libcusparse.so.12", "libcufft.so.12", "libcudart.so.13", "libc.so.6"]
    assert library("lib/libtorch_cuda.so", wheel("torch"), needed=needed) == [(CUDA, "13", "linked")]


def test_a_runtime_is_known_by_its_soname_whatever_its_file_is_called() -> None:
    assert library("x.libs/cudart-renamed.so", soname="libcudart.so.11.0") == [(CUDA, "11", "runtime-file")]
    assert library("lib/libcudart.so.11.8.89", soname="libcudart.so.11.0") == [(CUDA, "11.8", "runtime-file")]


def test_rocm_is_known_by_its_runtime() -> None:
    assert library("lib/libtorch_hip.so", wheel("torch"), needed=["libamdhip64.so.6"]) == [(ROCM, "6", "linked")]


def test_nvidia_s_own_libraries_use_nothing() -> None:
    assert library("lib/libcusolver.so.11", wheel("nvidia-cusolver-cu12"), needed=["libcudart.so.12"]) == []


# --- the rules themselves ---


def test_every_rule_has_its_place_and_its_reason() -> None:
    rules = [row["rule"] for row in table("order")]
    assert len(set(rules)) == len(rules)
    assert rank("framework-file") == 0
    assert all(row["why"] for row in table("order"))
    assert all(
        row["source"]
        for name in ("files", "toolkit", "runtime", "jit", "main", "not_loaded")
        for row in table(name)
    )


def test_families_and_toolkits_are_recognised_by_name() -> None:
    assert family("torchvision") == family("PyTorch") == family("flash_attn") == "torch"
    assert family("Some_Package") == "some-package"
    assert is_toolkit("nvidia-cublas-cu12") and is_toolkit("libcublas") and is_toolkit("cuda-nvrtc")
    assert not is_toolkit("torch") and not is_toolkit("cupy-cuda12x")
