"""GPU code by target."""

from __future__ import annotations

from envpack.contents.sizes.gpu_code import GpuCodeSizes, GpuLibrary, stated_targets, target_sizes
from envpack.runtime.format.needs import GpuCode
from support.gpu_files import ARCH, PTX, SASS, Code, elf, fatbin


def test_bytes_of_each_target_headers_included() -> None:
    code = fatbin(Code(SASS, 90, size=512), Code(SASS, 90, flags=ARCH, size=256), Code(PTX, 90, (8, 5), size=64))
    found = target_sizes(elf(fatbins={".nv_fatbin": code + fatbin(Code(SASS, 90, size=1024))}))
    assert found == {"sm_90": 512 + 1024 + 2 * 64, "sm_90a": 256 + 64, "compute_90": 64 + 64}


def test_what_is_no_library_has_none() -> None:
    assert target_sizes(b"") == target_sizes(b"text") == target_sizes(elf()) == {}


def test_targets_of_several_libraries_add_up() -> None:
    first = GpuLibrary("a.so", 1000, ("sm_100",), {"sm_100": 500, "sm_80": 100})
    second = GpuLibrary("b.so", 100, ("sm_80",), {"sm_80": 50, "compute_80": 10})
    found = GpuCodeSizes((first, second))
    assert found.by_target() == {"sm_80": (150, 2), "sm_100": (500, 1), "compute_80": (10, 1)}
    assert list(found.by_target()) == ["sm_80", "sm_100", "compute_80"]
    assert (found.size, found.unread) == (660, 0)


def test_of_libraries_that_were_not_read_the_manifest_names_the_targets() -> None:
    code = GpuCode("a.so", "p", sass=("sm_100", "sm_90", "sm_90a"), ptx=("compute_100",), stray=("sm_\x1b",))
    found = GpuCodeSizes((GpuLibrary("a.so", 1000, stated_targets(code), None),))
    assert found.unread == 1
    assert list(found.by_target()) == ["sm_90", "sm_90a", "sm_100", "compute_100", "sm_\x1b"]
    stated = found.as_dict()
    assert stated["size"] is None and {each["size"] for each in stated["targets"]} == {None}
