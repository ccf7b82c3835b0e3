"""Reading which GPUs a library has code for."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from envpack.prefix.needs.elf import read_elf
from envpack.prefix.needs.fatbin import Targets, kernels, targets
from support.gpu_files import ARCH, FAMILY, LZ4, PTX, SASS, ZSTD, Code, elf, fatbin, section


def read(*containers: bytes, padding: int = 0) -> Targets:
    data = section(*containers, padding=padding)
    return targets(data, [(0, len(data))])


def test_machine_code_and_ptx_are_distinguished_in_ascending_order() -> None:
    found = read(fatbin(Code(SASS, 120), Code(SASS, 90), Code(SASS, 80), Code(PTX, 90, (8, 5))))
    assert found.sass == ("sm_80", "sm_90", "sm_120")
    assert (found.ptx, found.ptx_isa) == (("compute_90",), "8.5")


def test_targets_for_one_gpu_or_one_family_only_keep_their_letter() -> None:
    found = read(
        fatbin(
            Code(SASS, 90), Code(SASS, 90, flags=ARCH), Code(SASS, 100, flags=FAMILY), Code(PTX, 90, (8, 0), ARCH)
        )
    )
    assert found.sass == ("sm_90", "sm_90a", "sm_100f")
    assert found.ptx == ("compute_90a",)


@pytest.mark.parametrize("flag", [LZ4, ZSTD])
def test_compressed_code_counts_like_any_other(flag: int) -> None:
    found = read(fatbin(Code(SASS, 75, flags=flag, header=80), Code(PTX, 75, (9, 2), flag)))
    assert (found.sass, found.ptx, found.ptx_isa) == (("sm_75",), ("compute_75",), "9.2")


def test_the_newest_ptx_isa_counts_even_where_a_smaller_minor_follows_a_greater_major() -> None:
    assert read(fatbin(Code(PTX, 80, (8, 8)), Code(PTX, 80, (9, 0)), Code(PTX, 80, (7, 8)))).ptx_isa == "9.0"


@pytest.mark.parametrize(
    ("entries", "newest", "isas"),
    [
        ([Code(PTX, 52, (7, 0)), Code(PTX, 52, (7, 8)), Code(PTX, 90, (8, 4))], "8.4", ("7.8", "8.4")),
        ([Code(PTX, 90, (8, 8)), Code(PTX, 52, (9, 0))], "9.0", ("9.0", "8.8")),
        ([Code(PTX, 52, (8, 4)), Code(PTX, 90, (8, 4)), Code(PTX, 90, (7, 0))], "8.4", ()),
        ([*(Code(PTX, arch, (8, 4), size=8000) for arch in (80, 90)), Code(PTX, 52, (7, 0), size=64)], "8.4", ()),
    ],
    ids=["oldest-first", "newest-first", "the-same", "other-one-is-a-stray"],
)
def test_targets_have_isas_of_their_own_where_they_differ(
    entries: list[Code], newest: str, isas: tuple[str, ...]
) -> None:
    found = read(fatbin(*entries))
    assert (found.ptx_isa, found.ptx_isas) == (newest, isas)


def test_headers_of_every_size_lead_to_the_next_entry() -> None:
    entries = [Code(SASS, arch, header=header, size=8 * arch) for arch, header in ((70, 64), (80, 72), (90, 112))]
    assert read(fatbin(*entries)).sass == ("sm_70", "sm_80", "sm_90")


@pytest.mark.parametrize("padding", [0, 8, 16, 4000])
def test_containers_are_found_behind_padding(padding: int) -> None:
    one, other = fatbin(Code(SASS, 80)), fatbin(Code(SASS, 90))
    assert read(one, other, padding=padding).sass == ("sm_80", "sm_90")


def test_relocatable_and_linked_code_count_together() -> None:
    """A library of separately compiled kernels has its PTX only in what the linker kept: bitsandbytes, NCCL."""
    data = elf(
        fatbins={
            "__nv_relfatbin": fatbin(Code(SASS, 80), Code(PTX, 90, (8, 2))),
            ".nv_fatbin": fatbin(Code(SASS, 80), Code(SASS, 90)),
        }
    )
    found = read_elf(data)
    assert found is not None
    code = targets(data, found.fatbins)
    assert (code.sass, code.ptx) == (("sm_80", "sm_90"), ("compute_90",))


# --- strays ---

TORCH_2_7 = [Code(SASS, arch, size=100_000) for arch in (50, 60, 70, 75, 80, 86, 90)]


def test_single_kernels_for_other_targets_cover_nothing() -> None:
    found = read(fatbin(*TORCH_2_7), fatbin(Code(SASS, 89, size=800), Code(SASS, 90, flags=ARCH, size=2000)))
    assert found.sass == ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
    assert found.stray == ("sm_89", "sm_90a")


def test_much_code_for_one_gpu_makes_no_strays_of_what_all_gpus_get() -> None:
    """cuBLASLt has five times as much for sm_90a as for anything else."""
    general = [Code(SASS, arch, size=8000) for arch in (70, 80, 90)]
    found = read(fatbin(*general, Code(SASS, 90, flags=ARCH, size=400_000)))
    assert (found.sass, found.stray) == (("sm_70", "sm_80", "sm_90", "sm_90a"), ())


def test_ptx_of_a_stray_kernel_says_nothing_of_the_isa() -> None:
    found = read(fatbin(*TORCH_2_7, Code(PTX, 90, (9, 9), size=64)))
    assert (found.ptx, found.ptx_isa, found.stray) == ((), "", ("compute_90",))


def test_where_everything_is_for_one_gpu_that_is_what_it_is_for() -> None:
    found = read(fatbin(Code(SASS, 90, flags=ARCH), Code(SASS, 100, flags=ARCH)))
    assert (found.sass, found.stray) == (("sm_90a", "sm_100a"), ())


# --- damage ---


def test_a_section_without_code_has_no_targets() -> None:
    assert read(b"") == read(b"\0" * 5000) == read(fatbin()) == Targets()


def test_a_cut_section_counts_as_far_as_it_goes() -> None:
    whole = fatbin(Code(SASS, 80), Code(SASS, 90))
    for length in range(len(whole)):
        found = targets(whole[:length], [(0, len(whole))])
        assert found.sass in ((), ("sm_80",), ("sm_80", "sm_90"))
    assert read(whole[:-1]).sass == ("sm_80", "sm_90")


@pytest.mark.parametrize("payload", [0, 2**64 - 64, 2**64 - 1, 2**63], ids=hex)
def test_sizes_that_wrap_around_end_the_walk(payload: int) -> None:
    """An entry that says it ends where it begins, or before, must not be read again and again."""
    data = bytearray(fatbin(Code(SASS, 80), Code(SASS, 90)))
    struct.pack_into("<Q", data, 16 + 8, payload)
    assert targets(bytes(data), [(0, len(data))]).sass[:1] == ("sm_80",)


@pytest.mark.parametrize("header", [0, 1, 63, 2**32 - 1])
def test_an_entry_with_an_impossible_header_ends_its_container_and_no_other(header: int) -> None:
    broken = bytearray(fatbin(Code(SASS, 80)))
    struct.pack_into("<I", broken, 16 + 4, header)
    assert read(bytes(broken), fatbin(Code(SASS, 90))).sass == ("sm_90",)


def test_a_container_of_another_version_is_skipped() -> None:
    other = bytearray(fatbin(Code(SASS, 80)))
    struct.pack_into("<H", other, 4, 2)
    assert read(bytes(other), fatbin(Code(SASS, 90))).sass == ("sm_90",)


def test_containers_without_end_are_not_followed_for_ever() -> None:
    many = fatbin(Code(SASS, 80, size=0)) * 5000
    assert sum(1 for _ in kernels(many, [(0, len(many))], 1000)) == 500
    assert sum(1 for _ in kernels(fatbin() * 5000, [(0, 5000 * 16)], 1000)) == 0


def test_kinds_of_code_that_no_gpu_runs_are_skipped() -> None:
    assert read(fatbin(Code(8, 90), Code(SASS, 90), Code(SASS, 0), Code(SASS, 4_000_000))).sass == ("sm_90",)


# --- what NVIDIA's compiler makes ---


@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("compress", ["size", pytest.param("none", marks=pytest.mark.long)])
def test_what_nvcc_makes_is_read(tmp_path: Path, compress: str) -> None:
    source, library = tmp_path / "kernel.cu", tmp_path / "kernel.so"
    source.write_text("__global__ void k(float *a) { a[threadIdx.x] += 1; }\n")
    wanted = [
        "arch=compute_80,code=[sm_80,compute_80]",
        "arch=compute_90a,code=sm_90a",
        "arch=compute_100f,code=sm_100f",
    ]
    options = [option for target in wanted for option in ("-gencode", target)]
    command = ["nvcc", *options, f"--compress-mode={compress}", "-rdc=true", "--shared", "-Xcompiler", "-fPIC"]
    done = subprocess.run([*command, "-o", library, source], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this nvcc does not support them: {done.stderr[-200:]}")
    data = library.read_bytes()
    found = read_elf(data)
    assert found is not None
    code = targets(data, found.fatbins)
    assert (code.sass, code.ptx) == (("sm_80", "sm_90a", "sm_100f"), ("compute_80",))
    assert float(code.ptx_isa) >= 8.0
