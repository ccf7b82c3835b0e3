"""The evidence that decides, and contradictions."""

from __future__ import annotations

from envpack.prefix.needs.decide import Decision, decide
from envpack.prefix.needs.evidence import CPU, CUDA, ROCM, Finding


def file(platform: str, value: str = "", family: str = "torch", *, optional: bool = False) -> Finding:
    return Finding(
        platform, value, "framework-file", f"{family}/version.py: {platform} {value}".rstrip(), family, optional
    )


def made_for(value: str, name: str, family: str = "", platform: str = CUDA) -> Finding:
    rule = "local-version" if "+" in name else "cuda-in-name"
    return Finding(platform, value, rule, f"pypi:{name}", family or name)


def runtime(value: str) -> Finding:
    return Finding(CUDA, value, "wheel-runtime", f"pypi:nvidia-cuda-runtime-cu{value[:2]}-{value}.1")


NCCL = Finding(CUDA, "12", "wheel-library", "pypi:nvidia-nccl-cu12-2.26.2")


def cuda(decision: Decision) -> str:
    return decision.cuda.value if decision.cuda else ""


def test_a_framework_s_own_record_decides_over_the_libraries_beside_it() -> None:
    decision = decide([NCCL, runtime("12.8"), file(CUDA, "12.6")])
    assert decision.cuda is not None
    assert (decision.cuda.value, decision.cuda.source) == ("12.6", "torch/version.py: cuda 12.6")
    assert [evidence.value for evidence in decision.cuda_all] == ["12.6", "12.8", "12"]
    assert (decision.contradictions, decision.remarks, decision.users) == ((), (), {"torch"})


def test_a_runtime_makes_exact_what_knows_its_major_version_only() -> None:
    assert cuda(decide([made_for("12", "jax-cuda12-plugin"), runtime("12.9"), NCCL])) == "12.9"
    assert cuda(decide([made_for("12", "jax-cuda12-plugin")])) == "12"
    assert cuda(decide([made_for("12", "jax-cuda12-plugin"), runtime("13.0")])) == "12"


def test_a_runtime_alone_is_enough_another_library_is_not() -> None:
    """xgboost brings nvidia-nccl-cu12 to every host."""
    assert cuda(decide([runtime("12.6")])) == "12.6"
    assert cuda(decide([NCCL])) == ""
    assert decide([]) == Decision()


def test_what_a_conda_package_asks_of_the_driver_decides_nothing() -> None:
    driver = Finding(CUDA, "12", "conda-driver", "conda:cuda-version-12.9-0 is constrained by __cuda >=12")
    assert cuda(decide([driver])) == ""


def test_a_build_for_cpus_needs_no_cuda_even_with_a_runtime_left_over() -> None:
    decision = decide([file(CPU), runtime("12.6"), NCCL])
    assert (decision.cuda, decision.rocm) == (None, None)
    assert [evidence.value for evidence in decision.cpu_builds] == ["torch"]
    assert decision.remarks == (
        "the environment is made for CPUs only (torch/version.py: cpu): nothing in it uses the runtime for CUDA "
        "12.6 (pypi:nvidia-cuda-runtime-cu12-12.6.1)",
    )


def test_a_framework_for_cpus_beside_another_for_cuda_is_no_contradiction() -> None:
    decision = decide([file(CPU), file(CUDA, "12.5", "tensorflow"), runtime("12.5")])
    assert (cuda(decision), decision.contradictions, decision.users) == ("12.5", (), {"tensorflow"})


def test_tensorflow_without_a_runtime_runs_on_cpus() -> None:
    alone = file(CUDA, "12.5", "tensorflow", optional=True)
    assert cuda(decide([alone])) == ""
    assert cuda(decide([alone, runtime("12.9")])) == "12.5"
    assert cuda(decide([alone, runtime("13.0")])) == "13.0"


def test_a_plug_in_for_gpus_needs_none_unless_its_runtime_is_there() -> None:
    """ucx, which comes with every MPI, has one that is linked to libcudart.so.12."""
    plugin = Finding(CUDA, "12", "linked", "lib/ucx/libuct_cuda.so.0 needs libcudart.so.12", "ucx", optional=True)
    rocm = Finding(ROCM, "6", "linked", "lib/ucx/libuct_rocm.so.0 needs libamdhip64.so.6", "ucx", optional=True)
    assert cuda(decide([plugin])) == ""
    assert cuda(decide([plugin, runtime("12.6")])) == "12.6"
    assert decide([rocm]).rocm is None


def test_rocm_is_no_cuda() -> None:
    decision = decide([file(ROCM, "6.2"), runtime("12.6")])
    assert decision.rocm is not None
    assert (decision.cuda, decision.rocm.value) == (None, "6.2")
    assert len(decision.remarks) == 1


def test_packages_for_another_cuda_contradict_it() -> None:
    decision = decide([file(CUDA, "12.6"), made_for("11", "cupy-cuda11x-13.0"), made_for("11.8", "dgl+cu118")])
    assert cuda(decision) == "12.6"
    assert decision.contradictions == (
        "the environment is made for CUDA 12.6 (torch/version.py: cuda 12.6), but also for CUDA 11 "
        "(pypi:cupy-cuda11x-13.0, and 1 more): those need other libraries and drivers",
    )


def test_minor_versions_are_compatible() -> None:
    assert decide([file(CUDA, "12.6"), made_for("12.4", "torchvision+cu124", "torch")]).contradictions == ()


def test_what_is_made_for_torch_has_to_fit_it() -> None:
    decision = decide([file(CPU), made_for("12.6", "torchvision-0.22.1+cu126", "torch")])
    assert decision.cuda is None
    assert decision.contradictions == (
        "the environment is made for CPUs only (torch/version.py: cpu), but also for CUDA 12.6 "
        "(pypi:torchvision-0.22.1+cu126): they can't work together",
    )
    assert len(decide([file(ROCM, "6.2"), made_for("12.6", "torchvision+cu126", "torch")]).contradictions) == 1


def test_pip_s_torch_over_conda_s_is_believed() -> None:
    """The build string is of files that are gone."""
    build = Finding(CUDA, "11.8", "conda-build", "conda:pytorch-2.1.0-cuda118_py311", "torch")
    assert cuda(decide([build, file(CUDA, "12.6")])) == "12.6"
    assert cuda(decide([build, file(CPU)])) == ""


def test_a_runtime_of_another_major_version_does_not_serve() -> None:
    found = decide([file(CUDA, "12.6"), runtime("11.8")]).contradictions
    assert found == (
        "the environment is made for CUDA 12.6 (torch/version.py: cuda 12.6), but the only CUDA runtime in it is "
        "CUDA 11.8 (pypi:nvidia-cuda-runtime-cu11-11.8.1)",
    )
    assert decide([file(CUDA, "12.6"), runtime("11.8"), runtime("12.4")]).contradictions == ()


def test_cuda_and_rocm_together_run_nowhere() -> None:
    decision = decide([file(ROCM, "6.2"), made_for("12", "cupy-cuda12x")])
    assert (cuda(decision), decision.rocm is not None) == ("12", True)
    assert len(decision.contradictions) == 1


def test_the_order_in_which_evidence_is_found_does_not_matter() -> None:
    findings = [
        file(CUDA, "12.6"),
        NCCL,
        runtime("12.6"),
        made_for("11", "cupy-cuda11x"),
        made_for("12", "cudf-cu12"),
    ]
    assert len({decide(findings[turn:] + findings[:turn]) for turn in range(len(findings))}) == 1
