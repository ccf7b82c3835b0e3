"""The data of an ELF file about the host it needs: machine, versions of libraries, CPU level, GPU code.

Only headers and a few small sections are read, however large the file. A damaged file raises no error and takes no
long time: what lies outside the file, or leads nowhere, is treated as absent.

Sources: the System V ABI (gABI) chapter 4, "Object Files"; the Linux Standard Base Core, "Symbol Versioning"; the
x86-64 psABI, "Program Property" (``GNU_PROPERTY_X86_ISA_1_NEEDED``), as <elf.h> of glibc has them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from envpack.prefix.magics import is_elf64
from envpack.prefix.scan.windowed_file import Readable

MACHINES = {3: "32", 62: "64", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
"""The second half of conda's subdir, by e_machine."""

_MOST_SECTIONS = 1 << 16
"""Maximum number of sections to read. Shared libraries have about forty; only relocatable objects have
thousands."""
_MOST_RECORDS = 1 << 14
"""Maximum number of entries of all tables of one file; libtorch_cpu.so has 40."""
_LONGEST_NAME = 1 << 10
_LONGEST_RUN_PATH = 1 << 14

_STRTAB, _PROGBITS, _DYNAMIC, _NOTE, _VERDEF, _VERNEED = 3, 1, 6, 7, 0x6FFFFFFD, 0x6FFFFFFE
_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 14, 15, 29
_BASE, _WEAK = 0x1, 0x2
_NT_GNU_PROPERTY_TYPE_0 = 5
_X86_ISA_1_NEEDED = 0xC0008002
_FATBIN_SECTIONS = (b".nv_fatbin\0", b"__nv_relfatbin\0")


@dataclass(frozen=True)
class Elf:
    """The data read from an ELF file.

    Attributes:
        machine: A value of MACHINES, or the number as text.
        soname: Its SONAME; "" without one.
        needed: The SONAMEs it is linked to.
        imports: The symbol versions it can't be loaded without, each with the library that has to define it:
            ("libc.so.6", "GLIBC_2.17").
        defines: The symbol versions it defines.
        isa_level: The level of x86-64-v1 to v4 that the loader requires; 0 when none is recorded.
        fatbins: (offset, size) in bytes of the sections that hold GPU code.
        rpath: The folders where the loader looks for ``needed``, of DT_RPATH; "" without.
        runpath: The same, of DT_RUNPATH.
    """

    machine: str
    soname: str = ""
    needed: tuple[str, ...] = ()
    imports: tuple[tuple[str, str], ...] = ()
    isa_level: int = 0
    fatbins: tuple[tuple[int, int], ...] = ()
    rpath: str = ""
    runpath: str = ""
    defines: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """The symbol versions of ``imports``, such as "GLIBC_2.17"."""
        return tuple(dict.fromkeys(version for _, version in self.imports))


@dataclass(frozen=True)
class _Section:
    name: int
    type: int
    offset: int
    size: int
    link: int
    info: int


def machine_of(head: bytes) -> str:
    """Return the machine in the first 20 bytes of a file; "" when they are not those of an ELF file of 64 bits."""
    if len(head) < 20 or not is_elf64(head):
        return ""
    (number,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
    return MACHINES.get(number, str(number))


def read_elf(data: Readable) -> Elf | None:
    """Read an ELF file of 64 bits; return None for anything else."""
    machine = machine_of(bytes(data[:20]))
    if not machine:
        return None
    return _Reader(data, "<" if data[5] == 1 else ">").read(machine)


class _Reader:
    def __init__(self, data: Readable, order: str) -> None:
        self._data, self._order, self._size = data, order, len(data)
        self._left = _MOST_RECORDS

    def read(self, machine: str) -> Elf:
        sections = self._sections()
        dynamic = self._dynamic(sections)
        return Elf(
            machine,
            dynamic.get(_DT_SONAME, [""])[-1],
            tuple(filter(None, dynamic.get(_DT_NEEDED, []))),
            tuple(dict.fromkeys(self._imports(sections))),
            max((self._isa_level(section) for section in sections if section.type == _NOTE), default=0),
            tuple(self._fatbins(sections)),
            dynamic.get(_DT_RPATH, [""])[-1],
            dynamic.get(_DT_RUNPATH, [""])[-1],
            tuple(self._defines(sections)),
        )

    def _unpack(self, form: str, offset: int) -> tuple[int, ...] | None:
        end = offset + struct.calcsize(self._order + form)
        if offset < 0 or end > self._size:
            return None
        return struct.unpack(self._order + form, self._data[offset:end])

    def _record(self, form: str, offset: int) -> tuple[int, ...] | None:
        """Return the next entry of a table; None when it is cut off, or when too many were read already."""
        self._left -= 1
        return self._unpack(form, offset) if self._left >= 0 else None

    def _sections(self) -> list[_Section]:
        header = self._unpack("Q10xHHH", 40)  # e_shoff, e_shentsize, e_shnum, e_shstrndx
        if header is None:
            return []
        start, entry_size, count, names = header
        first = self._unpack("IIQQQQII", start) if start else None
        if first is None or entry_size != 64:
            return []
        if count == 0:  # more than fit into e_shnum
            count = first[5]
        if names == 0xFFFF:
            names = first[6]
        count = min(count, _MOST_SECTIONS, (self._size - start) // 64)
        table = bytes(self._data[start : start + count * 64])
        sections = [
            _Section(name, kind, offset, size, link, info)
            for name, kind, _, _, offset, size, link, info, _, _ in struct.iter_unpack(
                self._order + "IIQQQQIIQQ", table
            )
        ]
        self._names = sections[names].offset if names < len(sections) else self._size
        return sections

    def _clip(self, section: _Section) -> tuple[int, int]:
        """Return where the section begins and ends within the file."""
        start = min(section.offset, self._size)
        return start, min(start + section.size, self._size)

    def _text(self, table: _Section, offset: int, longest: int = _LONGEST_NAME) -> str:
        start, end = self._clip(table)
        if table.type != _STRTAB or not 0 <= offset < end - start:
            return ""
        raw = bytes(self._data[start + offset : min(start + offset + longest, end)])
        name, nul, _ = raw.partition(b"\0")
        return name.decode("utf-8", "replace") if nul else ""

    def _strings_of(self, section: _Section, sections: list[_Section]) -> _Section | None:
        return sections[section.link] if section.link < len(sections) else None

    def _dynamic(self, sections: list[_Section]) -> dict[int, list[str]]:
        """Return the texts of the dynamic section by tag, in the order of the section."""
        texts: dict[int, list[str]] = {}
        for section in sections:
            strings = self._strings_of(section, sections)
            if section.type != _DYNAMIC or strings is None:
                continue
            start, end = self._clip(section)
            for offset in range(start, end - 15, 16):
                tag, value = self._record("QQ", offset) or (0, 0)
                if tag == 0:
                    break
                if tag in (_DT_NEEDED, _DT_SONAME):
                    texts.setdefault(tag, []).append(self._text(strings, value))
                elif tag in (_DT_RPATH, _DT_RUNPATH) and tag not in texts:
                    texts[tag] = [self._text(strings, value, _LONGEST_RUN_PATH)]
        return texts

    def _imports(self, sections: list[_Section]) -> Iterator[tuple[str, str]]:
        for section in sections:
            strings = self._strings_of(section, sections)
            if section.type != _VERNEED or strings is None:
                continue
            start, end = self._clip(section)
            for offset, (_, count, file, first, _) in self._chain("HHIII", start, end, section.info):
                library = self._text(strings, file)
                for _, (_, flags, _, name, _) in self._chain("IHHII", offset + first, end, count):
                    # the loader accepts that a weak version is missing (glibc, elf/dl-version.c)
                    if not flags & _WEAK and (text := self._text(strings, name)):
                        yield library, text

    def _defines(self, sections: list[_Section]) -> Iterator[str]:
        for section in sections:
            strings = self._strings_of(section, sections)
            if section.type != _VERDEF or strings is None:
                continue
            start, end = self._clip(section)
            records = self._chain("HHHHIII", start, end, section.info)
            for offset, (_, flags, _, _, _, first, _) in records:
                name = self._unpack("I", offset + first)
                if name is not None and not flags & _BASE and (text := self._text(strings, name[0])):
                    yield text

    def _chain(self, form: str, offset: int, end: int, count: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield records of at least 16 bytes whose last field is the distance to the next one, never backwards."""
        for _ in range(count):
            record = self._record(form, offset)
            if record is None or offset + 16 > end:
                return
            yield offset, record
            if record[-1] == 0:
                return
            offset += record[-1]

    def _isa_level(self, section: _Section) -> int:
        start, end = self._clip(section)
        for kind, data in self._notes(start, min(end, start + _LONGEST_NAME)):
            if kind != _NT_GNU_PROPERTY_TYPE_0:
                continue
            offset = 0
            while offset + 12 <= len(data):
                property_type, size, value = struct.unpack_from(self._order + "III", data, offset)
                if property_type == _X86_ISA_1_NEEDED and size >= 4:
                    return int(value & 0xF).bit_length()  # bit 0: baseline, 1: v2, 2: v3, 3: v4
                offset += 8 + (size + 7) // 8 * 8
        return 0

    def _notes(self, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        while (header := self._record("III", offset)) is not None and offset + 12 <= end:
            name_size, size, kind = header
            name = offset + 12
            start = name + (name_size + 3) // 4 * 4
            if bytes(self._data[name : name + 4]) == b"GNU\0" and name_size == 4:
                yield kind, bytes(self._data[start : min(start + size, end)])
            unit = 8 if kind == _NT_GNU_PROPERTY_TYPE_0 else 4
            offset = start + (size + unit - 1) // unit * unit

    def _fatbins(self, sections: list[_Section]) -> Iterator[tuple[int, int]]:
        for section in sections:
            name = self._names + section.name
            if section.type == _PROGBITS and bytes(self._data[name : name + 16]).startswith(_FATBIN_SECTIONS):
                start, end = self._clip(section)
                yield start, end - start
