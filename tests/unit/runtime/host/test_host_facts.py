"""Reading a host's files and programs, and its facts as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.commands.check import parse_policy
from envpack.runtime.errors import FormatError, UsageError
from envpack.runtime.format.needs import DetectedNeeds, Evidence
from envpack.runtime.host.checks.evaluate import evaluate
from envpack.runtime.host.checks.registry import parse_need
from envpack.runtime.host.detect import machine
from envpack.runtime.host.detect.nvidia import kernel_module_version, smi_devices, smi_versions
from envpack.runtime.host.detect.visible import with_visibility
from envpack.runtime.host.doctor import diagnose
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia, Slice, facts_from_json, facts_to_json
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.parallel import resources
from support.fake_hosts import CPUINFO, MODULE, OPEN_MODULE

GPUS = (
    Gpu(0, "NVIDIA A100", "GPU-aa11", "8.0", 80 << 30, "nvidia", mig=True, slices=(Slice("MIG 3g", "MIG-1", 5),)),
    Gpu(1, "NVIDIA A100", "GPU-bb22", "8.0", 80 << 30, "nvidia", mig=True),
)
FACTS = HostFacts(
    hostname="node7",
    subdir="linux-64",
    glibc="2.35",
    cpus=16,
    memory=64 << 30,
    limited=("memory",),
    nvidia=Nvidia("ok", "550.54.14", "12.4", source="nvml", devices=GPUS, visible_devices="0,1"),
)


def files(root: Path, **texts: str) -> Path:
    for path, text in texts.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


def test_facts_survive_json_also_as_doctor_prints_them() -> None:
    for document in (facts_to_json(FACTS), {"facts": facts_to_json(FACTS)}, {"result": diagnose(FACTS).as_dict()}):
        assert facts_from_json(json.loads(json.dumps(document)), "x") == FACTS


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "x does not contain the facts of a host"),
        ({"result": None}, "x does not contain the facts of a host"),
        ({"format": 2, "subdir": "linux-64"}, "x: facts of format 2"),
        ({"format": 1, "subdir": 5}, "x: not the facts of a host: subdir is 5"),
        ({"format": 1, "subdir": "", "cpus": -1}, "x: not the facts of a host: cpus is -1"),
        ({"format": 1, "subdir": "", "nvidia": {"devices": [{"index": 0, "mig": "yes"}]}}, "x: not the facts"),
        ({"format": 1, "subdir": "", "nvidia": {"devices": [5]}}, "x: not the facts"),
    ],
)
def test_what_holds_no_facts_is_refused(document: object, said: str) -> None:
    with pytest.raises(FormatError) as refused:
        facts_from_json(document, "x")
    assert refused.value.message.startswith(said)


def test_members_of_a_later_version_are_ignored() -> None:
    assert facts_from_json({**facts_to_json(FACTS), "colour": "blue"}, "x") == FACTS


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (MODULE.format("535.129.03"), "535.129.03"),
        (MODULE.format("470.57.02"), "470.57.02"),
        (OPEN_MODULE.format("595.91.07"), "595.91.07"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90", "550.90"),
        ("", ""),
        ("GCC version:  gcc 12.2.0\n", ""),
    ],
)
def test_both_shapes_of_the_module_s_version(text: str, version: str) -> None:
    assert kernel_module_version(text) == version


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ("| NVIDIA-SMI 550.54   Driver Version: 550.54.14   CUDA Version: 12.4  |", ("550.54.14", "12.4")),
        ("| NVIDIA-SMI 610.43   Driver Version: 610.43.02   CUDA UMD Version: 13.3 |", ("610.43.02", "13.3")),
        ("Failed to initialize NVML: Driver/library version mismatch", ("", "")),
    ],
)
def test_both_headers_of_nvidia_smi(header: str, versions: tuple[str, str]) -> None:
    assert smi_versions(header) == versions


def test_what_nvidia_smi_can_t_say_is_unknown() -> None:
    text = "0, Tesla T4, GPU-1, 7.5, 15360, [N/A]\n1, NVIDIA GeForce X, GPU-2, [N/A], [N/A], Enabled\nan error\n"
    assert [(gpu.compute_capability, gpu.memory, gpu.mig, gpu.brand) for gpu in smi_devices(text)] == [
        ("7.5", 15360 << 20, False, "unknown"),
        ("", 0, True, "geforce"),
    ]


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (None, [True, True]),
        ("", [False, False]),
        ("-1", [False, False]),
        ("NoDevFiles", [False, False]),
        ("0", [True, False]),
        ("1, 0", [True, True]),
        ("0,7,1", [True, False]),
        ("GPU-bb", [False, True]),
        ("GPU-", [False, False]),
        ("MIG-1", [True, False]),
        ("MIG-GPU-bb22/1/0", [False, True]),
    ],
)
def test_what_cuda_sees(setting: str | None, seen: list[bool]) -> None:
    alike = tuple(replace(gpu, slices=GPUS[0].slices if gpu.index == 0 else ()) for gpu in GPUS)
    assert [gpu.visible for gpu in with_visibility(alike, setting)] == seen


def test_of_named_mig_slices_the_others_are_not_seen() -> None:
    parts = (Slice("MIG 1g", "MIG-1", 10), Slice("MIG 3g", "MIG-2", 40))
    gpus = (Gpu(0, "A100", mig=True, slices=parts), Gpu(1, "A100", mig=True, slices=(Slice("", "MIG-3", 5),)))
    first, second = with_visibility(gpus, "MIG-2")
    assert (first.slices, first.visible, second.visible) == ((parts[1],), True, False)
    assert with_visibility(gpus, "0")[0].slices == with_visibility(gpus, None)[0].slices == parts


def test_numbers_of_unlike_gpus_say_nothing_without_the_order() -> None:
    unlike = (Gpu(0, "A"), Gpu(1, "B"))
    assert [gpu.visible for gpu in with_visibility(unlike, "0")] == [None, None]
    assert [gpu.visible for gpu in with_visibility(unlike, "0", "PCI_BUS_ID")] == [True, False]
    assert [gpu.visible for gpu in with_visibility(unlike, "1,0")] == [True, True]


def test_the_cpu_level_follows_from_the_flags() -> None:
    assert machine.cpu_level(CPUINFO) == "x86-64-v3"
    assert machine.cpu_level(CPUINFO.replace("bmi2", "")) == "x86-64-v2"
    assert machine.cpu_level(CPUINFO.replace("ssse3", "avx512f avx512bw")) == "x86-64-v1"
    assert machine.cpu_level("Features\t: fp asimd\n") == ""
    assert machine.cpu_model(CPUINFO) == "Example CPU"


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        ({"sys/fs/cgroup/memory.max": "max\n"}, (1 << 30, False)),
        ({"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.max": "4096\n"}, (4096, True)),
        ({"sys/fs/cgroup/memory.max": "8192"}, (8192, True)),
        ({"sys/fs/cgroup/memory.max": str(1 << 40)}, (1 << 30, False)),
        ({}, (1 << 30, False)),
    ],
)
def test_memory_is_what_the_cgroup_leaves(tmp_path: Path, texts: dict[str, str], limit: tuple[int, bool]) -> None:
    own = {"proc/meminfo": "MemTotal:  1048576 kB\n", "proc/self/cgroup": "0::/a/b\n"}
    assert resources.memory(files(tmp_path, **own, **texts)) == limit


def test_memory_in_a_cgroup_of_version_1(tmp_path: Path) -> None:
    own = {"proc/meminfo": "MemTotal:  1048576 kB\n", "proc/self/cgroup": "5:memory:/docker/x\n"}
    root = files(tmp_path, **own, **{"sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"})
    assert resources.memory(root) == (4096, True)


def test_cores_are_what_affinity_and_quota_leave(tmp_path: Path) -> None:
    allowed = resources.processors()
    own = files(tmp_path / "a", **{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert resources.cpus(own) == (1, True)
    free = files(tmp_path / "b", **{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    assert resources.cpus(free) == (allowed, False)
    first = {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}
    old = files(tmp_path / "c", **{"proc/self/cgroup": "3:cpu,cpuacct:/\n"})
    files(old / "sys/fs/cgroup/cpu", **first)
    assert resources.cpus(old) == (1, True)


@pytest.mark.parametrize(
    ("mark", "environ", "name"),
    [
        (".dockerenv", {}, "docker"),
        ("run/.containerenv", {}, "podman"),
        ("x", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ("x", {"APPTAINER_CONTAINER": "/a.sif"}, "apptainer"),
        ("x", {}, ""),
    ],
)
def test_containers_by_their_marks(tmp_path: Path, mark: str, environ: dict[str, str], name: str) -> None:
    assert machine.container(files(tmp_path, **{mark: ""}), environ) == name


def test_free_disk_is_measured_at_the_nearest_existing_folder(tmp_path: Path) -> None:
    place, free = machine.disk(tmp_path / "not/yet/there")
    assert (place, free > 0) == (str(tmp_path), True)


def wanted(**stated: str) -> Requirements:
    return Requirements("demo", "linux-64", {name: parse_need(name, text) for name, text in stated.items()})


def verdict(asked: Requirements, facts: HostFacts) -> tuple[str, str, str]:
    (found,) = (item for item in evaluate(asked, facts) if item.requirement != "platform")
    return found.requirement, found.verdict, found.message


@pytest.mark.parametrize(
    ("asked", "facts", "expected"),
    [
        (wanted(cpus="16"), FACTS, ("cpus", "ok", "")),
        (
            wanted(cpus="32"),
            FACTS,
            ("cpus", "failed", "16 usable cores found; this bundle needs 32: use a larger host"),
        ),
        (wanted(cpus="2"), HostFacts(subdir="linux-64"), ("cpus", "unknown", "the number of cores is not known")),
        (
            wanted(memory="100 GB"),
            replace(FACTS, container="docker"),
            (
                "memory",
                "failed",
                "68.7 GB of memory found; this bundle needs 100 GB: raise the container's limit",
            ),
        ),
        (
            wanted(memory="65 GiB"),
            FACTS,
            ("memory", "warning", "68.7 GB of memory found; this bundle needs 69.8 GB"),
        ),
        (
            wanted(kernel="6.1"),
            replace(FACTS, kernel="5.15.0-113-generic"),
            (
                "kernel",
                "failed",
                "Linux 5.15.0-113-generic found; this bundle needs >= 6.1: use a host with a newer kernel",
            ),
        ),
        (
            wanted(glibc="2.36"),
            replace(FACTS, glibc=""),
            (
                "glibc",
                "failed",
                "no glibc found (musl?); this bundle needs >= 2.36: use a newer system "
                "or a container of one (glibc 2.36 is in Debian 12 and later)",
            ),
        ),
        (
            wanted(disk="10 GB"),
            replace(FACTS, disk_path="/opt", disk_free=10**9),
            (
                "disk",
                "failed",
                "1.0 GB free at /opt; this bundle needs 10.0 GB: free some disk space, or deploy to another disk",
            ),
        ),
    ],
)
def test_what_is_missing_on_a_host(asked: Requirements, facts: HostFacts, expected: tuple[str, str, str]) -> None:
    assert verdict(asked, facts) == expected


@pytest.mark.parametrize(
    ("level", "found", "expected"), [("x86-64-v3", "x86-64-v4", "ok"), ("x86-64-v4", "x86-64-v3", "failed")]
)
def test_a_cpu_of_a_lower_level_fails(level: str, found: str, expected: str) -> None:
    asked = replace(wanted(), needs=DetectedNeeds(cpu=Evidence(level, "_x86_64-microarch-level")))
    assert verdict(asked, replace(FACTS, cpu_level=found))[1] == expected
    assert verdict(asked, replace(FACTS, cpu_level=""))[1] == "unknown"


@pytest.mark.parametrize(
    ("stated", "found", "host", "expected"),
    [
        ({"glibc": "2.28"}, {"glibc": Evidence("2.35", "lib/x.so")}, {"glibc": "2.31"}, "failed"),
        ({"glibc": "2.28"}, {"glibc": Evidence("2.35", "lib/x.so")}, {"glibc": "2.35"}, "ok"),
        ({"glibc": "2.36"}, {"glibc": Evidence("2.9", "lib/x.so")}, {"glibc": "2.31"}, "failed"),
        ({"glibc": "2.28"}, {}, {"glibc": "2.31"}, "ok"),
        ({"disk": "1 GB"}, {"disk": 10**10}, {"disk_path": "/", "disk_free": 5 * 10**9}, "failed"),
        ({"disk": "20 GB"}, {"disk": 10**10}, {"disk_path": "/", "disk_free": 15 * 10**9}, "failed"),
    ],
)
def test_a_spec_can_raise_what_was_found_and_not_lower_it(
    stated: dict[str, str], found: dict[str, Any], host: dict[str, Any], expected: str
) -> None:
    needs = DetectedNeeds(**found)
    asked = replace(wanted(**stated), needs=needs, size=needs.disk)
    assert verdict(asked, HostFacts(subdir="linux-64", **host))[1] == expected


@pytest.mark.parametrize("stated", ["11.8", "cuda>=11.8 brand=tesla,driver>=450"])
def test_a_cuda_stated_too_low_does_not_hide_the_one_found(stated: str) -> None:
    asked = replace(wanted(cuda=stated), needs=DetectedNeeds(cuda=Evidence("12.6", "torch/version.py")))
    nvidia = Nvidia("ok", "470.57.02", "11.8", devices=(Gpu(0, brand="tesla"),))
    found = evaluate(asked, HostFacts(subdir="linux-64", nvidia=nvidia))
    assert [item.verdict for item in found if item.requirement == "cuda"][-1] == "failed"


def test_a_requirement_of_a_later_version_is_unknown() -> None:
    asked = replace(wanted(), unreadable={"moon": "full"})
    assert verdict(asked, FACTS)[:2] == ("moon", "unknown")


@pytest.mark.parametrize(("words", "said"), [({"gpu": "maybe"}, "maybe"), ({"allow": ["cuda,moon"]}, "moon")])
def test_unknown_words_are_refused(words: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_policy(**words)  # type: ignore[arg-type]
    assert parse_policy(allow=["gpu-memory, cuda", "cuda"]).allow == ("gpu_memory", "cuda")
