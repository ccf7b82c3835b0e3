"""No file, however damaged, makes the readers of libraries fail, loop or read without bound."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from envpack.prefix.needs import fatbin as reader
from envpack.prefix.needs.elf import read_elf
from envpack.prefix.needs.fatbin import kernels, targets
from support.gpu_files import ARCH, FAMILY, PTX, SASS, Code, elf, fatbin, section

codes = st.builds(
    Code,
    kind=st.sampled_from([PTX, SASS]),
    arch=st.integers(50, 130),
    isa=st.tuples(st.integers(6, 9), st.integers(0, 8)),
    flags=st.sampled_from([0, ARCH, FAMILY]),
    size=st.integers(0, 40).map(lambda words: 8 * words),
    header=st.integers(8, 14).map(lambda words: 8 * words),
)
containers = st.lists(st.lists(codes, max_size=4).map(lambda entries: (entries, fatbin(*entries))), max_size=4)


def name(code: Code) -> str:
    suffix = "a" if code.flags & ARCH else "f" if code.flags & FAMILY else ""
    return f"{'sm' if code.kind == SASS else 'compute'}_{code.arch}{suffix}"


class Counted(bytes):
    """Bytes that count how many of them are asked for."""

    asked = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        found = super().__getitem__(key)
        type(self).asked += len(found) if isinstance(found, bytes) else 1
        return found


@given(containers, st.integers(0, 3))
def test_every_entry_is_found_once(made: list[tuple[list[Code], bytes]], words: int) -> None:
    data = section(*(container for _, container in made), padding=8 * words)
    expected = [name(code) for entries, _ in made for code in entries]
    assert [kernel.target for kernel in kernels(data, [(0, len(data))])] == expected
    found = targets(data, [(0, len(data))])
    assert set(found.sass) | set(found.ptx) | set(found.stray) == set(expected)


@given(st.binary(max_size=600), st.lists(st.tuples(st.integers(0, 700), st.integers(0, 2**64 - 1)), max_size=4))
def test_a_section_can_contain_anything(data: bytes, places: list[tuple[int, int]]) -> None:
    found = list(kernels(data.replace(b"\0\0", reader.MAGIC), places))
    assert len(found) <= reader.MOST_HEADERS


@given(
    containers,
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("BHIQ"), st.integers(0, 2**64 - 1)), max_size=6),
)
def test_numbers_changed_anywhere_do_no_harm(
    made: list[tuple[list[Code], bytes]], changes: list[tuple[float, str, int]]
) -> None:
    data = bytearray(elf(versions={"libc.so.6": ["GLIBC_2.17"]}, needed=["libc.so.6"], isa_needed=2))
    code = section(*(container for _, container in made))
    whole = bytearray(elf(versions={"libc.so.6": ["GLIBC_2.17"]}, isa_needed=2, fatbins={".nv_fatbin": code}))
    for target in (data, whole):
        for place, form, value in changes:
            size = struct.calcsize(form)
            offset = int(place * (len(target) - size))
            struct.pack_into("<" + form, target, offset, value % (1 << 8 * size))
        Counted.asked = 0
        counted = Counted(bytes(target))
        found = read_elf(counted)
        if found is not None:
            targets(counted, found.fatbins)
        assert Counted.asked <= 100 * len(target)


@given(st.binary(max_size=2000))
def test_anything_can_follow_the_magic_number(data: bytes) -> None:
    read_elf(b"\x7fELF\x02\x01" + data)
