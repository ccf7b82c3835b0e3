"""Fat binaries and ELF files made by hand, small and exactly as wanted, for tests of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PTX, SASS = 1, 2
ARCH, FAMILY, LZ4, ZSTD = 0x100000, 0x200000, 0x2000, 0x8000


@dataclass(frozen=True)
class Code:
    """One entry of a fat binary: ``arch`` 90 is sm_90; ``isa`` of PTX; ``size``: bytes of the payload, a multiple
    of 8; ``header``: bytes of the entry's header (64 to 112 in real ones)."""

    kind: int
    arch: int
    isa: tuple[int, int] = (0, 0)
    flags: int = 0
    size: int = 256
    header: int = 64

    def pack(self) -> bytes:
        compressed = self.size - 3 if self.flags & (LZ4 | ZSTD) else 0
        minor, major = self.isa[1], self.isa[0]
        fields = (self.kind, 0x101, self.header, self.size, compressed, 0, minor, major, self.arch, 64, 0)
        head = struct.pack("<HHIQIIHHIIIQQQ", *fields, self.flags, 0, 4 * self.size if compressed else 0)
        return head.ljust(self.header, b"\0") + b"\xcc" * self.size


def fatbin(*entries: Code) -> bytes:
    """Return a container with these entries."""
    body = b"".join(entry.pack() for entry in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def section(*containers: bytes, padding: int = 0) -> bytes:
    """Return containers one after the other, with that many NULs between them."""
    return (b"\0" * padding).join(containers)


def elf(
    *,
    machine: int = 62,
    soname: str = "",
    needed: Sequence[str] = (),
    versions: Mapping[str, Sequence[str]] | None = None,
    weak: Iterable[str] = (),
    isa_needed: int = 0,
    fatbins: Mapping[str, bytes] | None = None,
    nobits: bool = False,
) -> bytes:
    """Return a shared library of 64 bits with these sections and no code.

    ``versions``: by library, the symbol versions needed of it, ``weak`` ones marked so; ``isa_needed``: bits of
    GNU_PROPERTY_X86_ISA_1_NEEDED; ``nobits``: sections without contents, as in files of debug symbols.
    """
    strings, offsets = bytearray(b"\0"), {}

    def text(value: str) -> int:
        if value not in offsets:
            offsets[value] = len(strings)
            strings.extend(value.encode() + b"\0")
        return offsets[value]

    dynamic = b"".join(struct.pack("<QQ", 1, text(name)) for name in needed)
    dynamic += struct.pack("<QQ", 14, text(soname)) if soname else b""
    dynamic += struct.pack("<QQ", 0, 0)
    verneed = bytearray()
    libraries = list((versions or {}).items())
    for index, (library, names) in enumerate(libraries):
        last = index == len(libraries) - 1
        verneed += struct.pack("<HHIII", 1, len(names), text(library), 16, 0 if last else 16 + 16 * len(names))
        for position, name in enumerate(names):
            more = 0 if position == len(names) - 1 else 16
            verneed += struct.pack("<IHHII", 0, 2 if name in weak else 0, 2, text(name), more)
    note = struct.pack("<III4sIIII", 4, 16, 5, b"GNU\0", 0xC0008002, 4, isa_needed, 0) if isa_needed else b""
    kinds = [
        (".dynstr", 3, b"", 0, 0),
        (".dynamic", 6, dynamic, 1, 0),
        (".gnu.version_r", 0x6FFFFFFE, bytes(verneed), 1, len(libraries)),
        (".note.gnu.property", 7, note, 0, 0),
        *((name, 1, data, 0, 0) for name, data in (fatbins or {}).items()),
        (".shstrtab", 3, b"", 0, 0),
    ]
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in kinds)
    body, headers, name_at = bytearray(b"\0" * 64), [b"\0" * 64], 1
    for name, kind, data, link, info in kinds:
        data = bytes(strings) if name == ".dynstr" else names if name == ".shstrtab" else data
        body += b"\0" * (-len(body) % 16)
        shown = 8 if nobits and kind != 3 else kind
        headers.append(struct.pack("<IIQQQQIIQQ", name_at, shown, 0, 0, len(body), len(data), link, info, 8, 0))
        body += b"" if nobits and kind != 3 else data
        name_at += len(name) + 1
    body += b"\0" * (-len(body) % 16)
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    head += struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, len(body), 0, 64, 0, 0, 64, len(headers), len(headers) - 1
    )
    body[:64] = head
    return bytes(body) + b"".join(headers)
