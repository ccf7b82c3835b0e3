"""Reading what a library needs of a host from its ELF headers."""

from __future__ import annotations

import mmap
import os
import platform
import re
import shutil
import struct
import subprocess
import sysconfig
from pathlib import Path

import pytest

from envpack.prefix.needs.elf import machine_of, read_elf
from envpack.prefix.needs.host_libraries import host_libraries
from envpack.prefix.needs.libraries import Library
from support.compilers import compile_c, compiler
from support.gpu_files import SASS, Code, elf, fatbin

GLIBC = ["GLIBC_2.2.5", "GLIBC_2.17"]


def test_what_a_library_needs_is_read() -> None:
    found = read_elf(
        elf(
            soname="libx.so.1",
            needed=["libc.so.6", "libcudart.so.12"],
            versions={"libc.so.6": GLIBC},
            isa_needed=4,
        )
    )
    assert found is not None
    assert (found.machine, found.soname) == ("64", "libx.so.1")
    assert found.needed == ("libc.so.6", "libcudart.so.12")
    assert found.versions == tuple(GLIBC)
    assert found.isa_level == 3


def test_versions_of_every_library_are_read() -> None:
    found = read_elf(
        elf(versions={"libm.so.6": ["GLIBC_2.29"], "libc.so.6": GLIBC, "libstdc++.so.6": ["CXXABI_1.3"]})
    )
    assert found is not None
    assert found.versions == ("GLIBC_2.29", *GLIBC, "CXXABI_1.3")


def test_a_version_the_loader_does_without_is_left_out() -> None:
    found = read_elf(elf(versions={"libc.so.6": GLIBC}, weak=["GLIBC_2.17"]))
    assert found is not None
    assert found.versions == ("GLIBC_2.2.5",)


def test_both_sections_of_gpu_code_are_found_where_they_lie() -> None:
    code = {".nv_fatbin": fatbin(Code(SASS, 80)), "__nv_relfatbin": fatbin(Code(SASS, 90))}
    data = elf(fatbins={".data": b"x" * 100, **code})
    found = read_elf(data)
    assert found is not None
    assert [data[offset : offset + size] for offset, size in found.fatbins] == list(code.values())


def test_files_of_debug_symbols_need_nothing() -> None:
    """Their headers are the library's, but the sections have no contents: what lies there is something else."""
    data = elf(versions={"libc.so.6": GLIBC}, fatbins={".nv_fatbin": fatbin(Code(SASS, 80))}, nobits=True)
    found = read_elf(data)
    assert found is not None
    assert (found.versions, found.fatbins) == ((), ())


@pytest.mark.parametrize(("number", "machine"), [(62, "64"), (183, "aarch64"), (21, "ppc64le"), (190, "190")])
def test_the_machine_is_read(number: int, machine: str) -> None:
    assert machine_of(elf(machine=number)[:20]) == machine


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fELF", b"#!/bin/sh\n" * 10, b"\x7fELF\x01" + elf()[5:], b"MZ" + b"\0" * 100],
    ids=["empty", "cut", "script", "32 bits", "Windows"],
)
def test_other_files_are_no_libraries(data: bytes) -> None:
    assert read_elf(data) is None


def test_more_sections_than_the_header_can_count_are_read() -> None:
    """From 65,280 on their number and that of their names stand in the first section header (gABI, e_shnum)."""
    data = bytearray(elf(versions={"libc.so.6": GLIBC}))
    count, names = struct.unpack_from("<HH", data, 60)
    (table,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<HH", data, 60, 0, 0xFFFF)
    struct.pack_into("<Q", data, table + 32, count)
    struct.pack_into("<I", data, table + 40, names)
    assert read_elf(bytes(data)) == read_elf(elf(versions={"libc.so.6": GLIBC}))


def test_every_cut_of_a_file_is_read_without_complaint() -> None:
    data = elf(
        soname="libx.so.1",
        needed=["libc.so.6"],
        versions={"libc.so.6": GLIBC},
        isa_needed=8,
        fatbins={".nv_fatbin": b""},
    )
    for length in range(len(data)):
        read_elf(data[:length])


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        found = super().__getitem__(key)
        Counted.copied += len(found) if isinstance(found, bytes) else 1
        return found


def test_a_table_that_leads_nowhere_ends() -> None:
    data = bytearray(elf(versions={"libc.so.6": GLIBC}))
    (table,) = struct.unpack_from("<Q", data, 40)
    section = table + 3 * 64
    (offset,) = struct.unpack_from("<Q", data, section + 24)
    struct.pack_into("<I", data, section + 44, 0xFFFFFFFF)  # four thousand million libraries
    struct.pack_into("<I", data, offset + 12, 1)  # each one byte after the other
    assert read_elf(bytes(data)) is not None
    struct.pack_into("<I", data, offset + 8, 0xFFFFFFF0)
    found = read_elf(bytes(data))
    assert found is not None
    assert found.versions == ()


def test_many_sections_with_the_same_long_table_are_not_all_read() -> None:
    """60,000 sections of 4,000 entries, each with a name of a kilobyte: 240 GB if it were believed."""
    names = [f"lib{'x' * 1000}{number}.so" for number in range(4000)]
    data = bytearray(elf(needed=names))
    (table,) = struct.unpack_from("<Q", data, 40)
    dynamic = bytes(data[table + 128 : table + 192])
    data += dynamic * 60_000
    struct.pack_into("<H", data, 60, 60_005)
    Counted.copied = 0
    found = read_elf(Counted(data))
    assert found is not None
    assert found.needed[0] == names[0]
    assert Counted.copied < 30_000_000


# --- real files ---


def readelf_versions(path: Path) -> set[str]:
    said = subprocess.run(["readelf", "-VW", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"Name: (\S+)  Flags: none", said))


REAL = sorted(
    path for path in Path(sysconfig.get_path("platlib")).rglob("*.so*") if path.is_file() and not path.is_symlink()
)


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs binutils")
@pytest.mark.parametrize("path", REAL[:: max(1, len(REAL) // 25)], ids=lambda path: path.name)
def test_real_libraries_are_read_as_readelf_reads_them(path: Path) -> None:
    if path.read_bytes()[:5] != b"\x7fELF\x02":
        pytest.skip("this file is not a 64-bit ELF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = read_elf(data)
    assert found is not None
    assert set(found.versions) == readelf_versions(path)
    said = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.+)\]", said)
    assert [found.soname] == (re.findall(r"\(SONAME\).*\[(.+)\]", said) or [""])
    assert [found.rpath] == (re.findall(r"\(RPATH\).*\[(.+)\]", said) or [""])
    assert [found.runpath] == (re.findall(r"\(RUNPATH\).*\[(.+)\]", said) or [""])


# As GNU ld writes it for -z x86-64-v2 and so on (x86-64 psABI, "Program Property"); zig's linker can't.
MARK = """
__asm__(".pushsection .note.isa, \\"a\\", @note\\n.balign 8\\n.long 4, 16, 5\\n.asciz \\"GNU\\"\\n"
        ".long 0xc0008002, 4, %d, 0\\n.popsection");
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86-64 has such levels")
@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_library_that_its_linker_marked_for_a_cpu_level_is_known(tmp_path: Path, level: int) -> None:
    source, library = tmp_path / "x.c", tmp_path / "libx.so"
    zig = "ziglang" in compiler()
    source.write_text("int x(void) { return 1; }\n" + (MARK % (1 << (level - 1)) if zig else ""))
    compile_c("-shared", "-fPIC", *([] if zig else [f"-Wl,-z,x86-64-v{level}"]), "-o", library, source)
    found = read_elf(library.read_bytes())
    assert found is not None
    assert found.isa_level == level


def test_the_versions_that_a_library_defines_and_where_those_it_needs_come_from(tmp_path: Path) -> None:
    """Of a real compiler: GNU's linker writes .gnu.version_d and .gnu.version_r."""
    (tmp_path / "v.map").write_text("NEW_1.0 { global: old; local: *; };\nNEW_1.1 { global: new; } NEW_1.0;\n")
    (tmp_path / "a.c").write_text("int old(void) { return 1; } int new(void) { return 2; }\n")
    (tmp_path / "b.c").write_text("int new(void); int f(void) { return new(); }\n")
    made = tmp_path / "liba.so.1"
    shared = ("-shared", "-fPIC", "-nostdlib")
    script = f"-Wl,--version-script={tmp_path}/v.map"
    compile_c(*shared, "-Wl,-soname,liba.so.1", script, tmp_path / "a.c", "-o", made)
    compile_c(*shared, tmp_path / "b.c", made, "-o", tmp_path / "b.so")
    provider, user = read_elf(made.read_bytes()), read_elf((tmp_path / "b.so").read_bytes())
    assert provider is not None and provider.defines == ("NEW_1.0", "NEW_1.1")
    assert user is not None and user.imports == (("liba.so.1", "NEW_1.1"),)
    assert user.defines == ()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the loader of glibc")
@pytest.mark.parametrize("dtags", ["--disable-new-dtags", "--enable-new-dtags"])
@pytest.mark.parametrize("copies", [("libs", "lib"), ("lib", "libs")])
def test_a_library_that_is_too_old_is_the_one_that_the_loader_finds(
    tmp_path: Path, dtags: str, copies: tuple[str, str]
) -> None:
    """The program loads a/liba.so, that b/libb.so, and that libv.so.1, old in one folder and new in another."""
    prefix, shared = tmp_path / "env", ("-shared", "-fPIC", "-nostdlib")
    for name in ("bin", "lib", "a", "b", "libs"):
        (prefix / name).mkdir(parents=True)
    (tmp_path / "v.c").write_text("int old(void) { return 1; } int new(void) { return 2; }\n")
    (tmp_path / "b.c").write_text("int new(void); int f(void) { return new(); }\n")
    (tmp_path / "a.c").write_text("int f(void); int g(void) { return f(); }\n")
    (tmp_path / "x.c").write_text("int g(void); int main(void) { return g(); }\n")
    scripts = ("V_1 { global: old; local: *; };", "V_1 { global: old; local: *; };\nV_2 { global: new; } V_1;")
    for folder, script in zip(copies, scripts, strict=True):
        (tmp_path / "v.map").write_text(script)
        made = prefix / folder / "libv.so.1"
        versions = f"-Wl,--version-script={tmp_path}/v.map"
        compile_c(*shared, "-Wl,-soname,libv.so.1", versions, tmp_path / "v.c", "-o", made)
    a, b, program = prefix / "a" / "liba.so", prefix / "b" / "libb.so", prefix / "bin" / "x"
    compile_c(*shared, "-Wl,-soname,libb.so", tmp_path / "b.c", made, "-o", b)
    of_a = f"-Wl,-soname,liba.so,{dtags},-rpath,$ORIGIN/../b:$ORIGIN/../libs"
    compile_c(*shared, of_a, tmp_path / "a.c", b, "-o", a)
    of_program = "-Wl,--allow-shlib-undefined,--disable-new-dtags,-rpath,$ORIGIN/../lib:$ORIGIN/../a"
    compile_c(of_program, tmp_path / "x.c", a, "-o", program)
    traced = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1", "LD_LIBRARY_PATH": ""}
    said = subprocess.run([program], env=traced, capture_output=True, text=True, check=False).stdout
    (used,) = re.findall(r"libv\.so\.1 => (\S+)", said)
    libraries = [
        Library(str(path.relative_to(prefix)), read)
        for path in sorted(prefix.rglob("*"))
        if path.is_file() and (read := read_elf(path.read_bytes())) is not None
    ]
    paths = [library.path for library in libraries]
    found = host_libraries(libraries, paths, str(prefix), lambda path: False)
    is_old = Path(used).resolve() == prefix / copies[0] / "libv.so.1"
    assert [item.inside for item in found] == ([f"{copies[0]}/libv.so.1"] if is_old else [])
