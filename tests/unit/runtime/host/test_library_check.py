"""The verdicts on libraries of the host, and the reading of the loader's cache."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

import pytest

from envpack.runtime.format.needs import DetectedNeeds, Evidence, HostLibrary
from envpack.runtime.host.checks.evaluate import evaluate
from envpack.runtime.host.checks.libraries import wanted_libraries
from envpack.runtime.host.checks.verdict import Verdict
from envpack.runtime.host.detect.libraries import _FLAGS, read_libraries
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.requirements import Requirements

ELF = b"\x7fELF\x02\x01\x01"
GL = HostLibrary("libGL.so.1", "lib/python3.11/site-packages/cv2/cv2.abi3.so")
CXX = HostLibrary("libstdc++.so.6", "lib/x.so", ("CXXABI_1.3.13", "GLIBCXX_3.4.30"))


def judged(needed: list[HostLibrary], host: tuple[str, ...] | None, cuda: str = "") -> list[Verdict]:
    needs = DetectedNeeds(libraries=tuple(needed), cuda=Evidence(cuda, "x") if cuda else None)
    facts = HostFacts(subdir="linux-64", libraries=host)
    found = evaluate(Requirements("demo", "linux-64", needs=needs), facts, gpu="none")
    return [item for item in found if item.requirement == "libraries"]


def test_a_library_that_is_missing_is_a_warning_with_its_packages() -> None:
    (verdict,) = judged([GL], ())
    assert verdict.verdict == "warning"
    assert verdict.says == "libGL.so.1 (for cv2/cv2.abi3.so) is neither in this bundle nor on this host"
    assert verdict.remedy == (
        "install libgl1 (apt) or libglvnd-glx (dnf) on the host, or add libgl (conda) to the spec and rebuild"
    )
    (verdict,) = judged([GL], ("libGL.so.1",))
    assert (verdict.verdict, verdict.message) == ("ok", "")


def test_what_the_interpreter_or_a_framework_is_linked_to_fails() -> None:
    cublas = HostLibrary("libcublas.so.12", "torch/lib/libtorch_cuda.so", main=True)
    curand = HostLibrary("libcurand.so.10", "torch/lib/libtorch_cuda.so", main=True)
    warning, failed = sorted(judged([GL, cublas, curand], (), "13.0"), key=lambda item: item.verdict, reverse=True)
    assert (warning.verdict, failed.verdict) == ("warning", "failed")
    assert (
        failed.remedy
        == "add libcublas libcurand (conda) or nvidia-cublas-cu12 nvidia-curand (pip) to the spec and rebuild"
    )


def test_one_library_of_several_is_enough() -> None:
    mpi = HostLibrary("libmpi.so.12", "mpi4py/MPI.mpich.so, and 1 more", alternatives=("libmpi.so.40",))
    for host in (("libmpi.so.12",), ("libmpi.so.40",)):
        assert [item.verdict for item in judged([mpi], host)] == ["ok"]
    (verdict,) = judged([mpi], ())
    assert "libmpi.so.12 or libmpi.so.40 (for mpi4py/MPI.mpich.so, and 1 more) is neither" in verdict.says
    wanted = Requirements("demo", "linux-64", needs=DetectedNeeds(libraries=(mpi,)))
    assert set(wanted_libraries(wanted)) == {"libmpi.so.12", "libmpi.so.40"}


def test_a_library_of_no_table_is_searched_for() -> None:
    (verdict,) = judged([HostLibrary("libodd.so.3", "bin/odd")], ())
    assert "apt-file search libodd.so.3; dnf install 'libodd.so.3()(64bit)'" in verdict.remedy


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (("GLIBCXX_3.4.30", "GLIBCXX_3.4.9", "CXXABI_1.3.13"), ""),
        (("GLIBCXX_3.4.33", "CXXABI_1.3.15"), ""),
        ((), ""),  # nothing is known of its versions
        (
            ("GLIBCXX_3.4.9", "GLIBCXX_3.4.29", "CXXABI_1.3.13"),
            "needs GLIBCXX_3.4.30, and libstdc++.so.6 of this host ends with GLIBCXX_3.4.29",
        ),
    ],
)
def test_versions_compare_by_number(host: tuple[str, ...], said: str) -> None:
    versions = tuple(f"libstdc++.so.6({version})" for version in host)
    (verdict,) = judged([CXX], ("libstdc++.so.6", *versions))
    assert verdict.verdict == ("warning" if said else "ok")
    assert said in verdict.says
    assert not said or verdict.remedy == "add libstdcxx (conda) to the spec and rebuild, or use a newer system"


def test_a_library_of_the_environment_that_is_too_old_is_so_on_every_host() -> None:
    inside = HostLibrary("libstdc++.so.6", "lib/x.so", ("GLIBCXX_3.4.30",), inside="lib/libstdc++.so.6")
    (verdict,) = judged([inside], ("libstdc++.so.6", "libstdc++.so.6(GLIBCXX_3.4.33)"))
    assert "lib/x.so needs GLIBCXX_3.4.30, which lib/libstdc++.so.6 does not define" in verdict.says
    assert judged([inside], None) == [verdict]
    assert [each.verdict for each in judged([GL, inside], None)] == ["unknown", verdict.verdict]


def test_facts_without_libraries_are_no_answer() -> None:
    assert [item.verdict for item in judged([GL], None)] == ["unknown"]
    assert judged([], None) == []


# --- reading a host ---


def cache(entries: list[tuple[str, str, int]]) -> bytes:
    """/etc/ld.so.cache, as dl-cache.h of glibc describes it."""
    strings, table, start = b"", b"", 48 + 24 * len(entries)
    for name, path, flags in entries:
        key = start + len(strings)
        strings += name.encode() + b"\0" + path.encode() + b"\0"
        table += struct.pack("=IIIIQ", flags, key, key + len(name) + 1, 0, 0)
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(entries), len(strings))
    return head.ljust(48, b"\0") + table + strings


def write(root: Path, path: str, data: bytes) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


@pytest.mark.skipif(platform.machine() not in _FLAGS, reason="needs a machine with known flags")
def test_libraries_are_those_of_the_cache_the_folders_and_the_variable(tmp_path: Path) -> None:
    mine = _FLAGS[platform.machine()]
    listed = [
        ("libGL.so.1", "/opt/gl/libGL.so.1", mine),
        ("libgone.so.1", "/opt/gl/libgone.so.1", mine),
        ("lib32.so.1", "/opt/32/lib32.so.1", 3),
    ]
    write(tmp_path, "etc/ld.so.cache", b"ld.so-1.7.0\0" + b"\0" * 4 + cache(listed))
    for path in ("opt/gl/libGL.so.1", "opt/32/lib32.so.1", "usr/lib/libx.so.2", "srv/libset.so.1"):
        write(tmp_path, path, ELF)
    write(tmp_path, "usr/lib/libx32.so.2", b"\x7fELF\x01")
    write(tmp_path, "opt/gl/libmore.so", ELF)
    names = b"\0GLIBCXX_3.4.29\0GLIBCXX_3.4.30\0CXXABI_1.3.13\0GLIBCXX_TUNABLES\0"
    write(tmp_path, "usr/lib64/libstdc++.so.6", ELF + names)
    everything = read_libraries(tmp_path, {"LD_LIBRARY_PATH": "/srv:relative"}, {})
    assert everything == (
        "libGL.so.1",
        "libset.so.1",
        "libstdc++.so.6",
        "libstdc++.so.6(CXXABI_1.3.13)",
        "libstdc++.so.6(GLIBCXX_3.4.29)",
        "libstdc++.so.6(GLIBCXX_3.4.30)",
        "libx.so.2",
    )
    asked = {"libGL.so.1": (), "libgone.so.1": (), "/opt/gl/libmore.so": ()}
    assert read_libraries(tmp_path, {}, asked) == ("/opt/gl/libmore.so", "libGL.so.1")


@pytest.mark.parametrize(
    "data", [b"", b"glibc-ld.so.cache1.1", cache([])[:40], b"glibc-ld.so.cache1.1" + b"\xff" * 80]
)
def test_a_cache_that_is_damaged_names_nothing(data: bytes, tmp_path: Path) -> None:
    write(tmp_path, "etc/ld.so.cache", data)
    assert read_libraries(tmp_path, {}, {}) == ()


def test_versions_at_the_end_of_longer_names_are_read(tmp_path: Path) -> None:
    """Linkers store OMP_1.0 as the end of GOMP_1.0; versions of other libraries are read where they are asked."""
    write(tmp_path, "lib/libgomp.so.1", ELF + b"\0GOMP_1.0\0OMP_3.0\0")
    write(tmp_path, "lib/libssl.so.3", ELF + b"\0OPENSSL_3.0.0\0OPENSSL_3.2.0\0")
    answer = read_libraries(tmp_path, {}, {"libgomp.so.1": ("OMP_1.0",), "libssl.so.3": ("OPENSSL_3.3.0",)})
    assert "libgomp.so.1(OMP_1.0)" in answer
    assert "libssl.so.3(OPENSSL_3.2.0)" in answer
