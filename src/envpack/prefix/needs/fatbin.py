"""GPU code in a library: the headers of the fat binaries that nvcc puts into sections of their own.

A section is a sequence of containers, a container a sequence of entries, one for each source file and target. Only
headers are read, at most MOST_HEADERS of them. The layout is not published; it was worked out from the output of
nvcc and from wheels for CUDA 11.8 to 13.2, where it gives the same as ``cuobjdump --list-elf --list-ptx``:

container: u32 magic, u16 version (1), u16 size of this header (16), u64 bytes that follow it
entry: u16 kind (1 PTX, 2 SASS), u16, u32 size of this header, u64 padded size of the payload, u32 compressed size,
u32, u16 minor and u16 major (of PTX: the ISA), u32 target (86 is sm_86), u32, u32, u64 flags, ...
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from envpack.prefix.scan.windowed_file import Readable

MAGIC = b"\x50\xed\x55\xba"
MOST_HEADERS = 1 << 18
"""Maximum number of headers to read in one library; cuDNN, the one with the most seen, has 3,400."""

FEW = 24
"""A target with less than 1/FEW of the bytes of the largest one is a stray: only single kernels were built for it.
In the main libraries of the wheels measured, strays have at most 1/47 (torch 2.7 to 2.15), and targets they are
built for at least 1/4; in NVIDIA's, whose kernels differ by target, 1/18. Targets such as sm_90a are not used as
the largest: code for them is often added to the code that all GPUs get."""

_CONTAINER = struct.Struct("<4sHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQ")
_PTX, _SASS = 1, 2
_LEAST_ENTRY = 64
_ARCH_SPECIFIC, _FAMILY_SPECIFIC = 0x100000, 0x200000
_WIDEST_GAP = 4096
"""Bytes of padding that the linker may leave between containers; a magic number farther off is no container of
this sequence."""


class Kernel(NamedTuple):
    """One entry of a container.

    Attributes:
        target: Its target, such as "sm_90a" or "compute_90".
        isa: The ISA of PTX, such as (8, 5); (0, 0) for machine code.
        size: Its size in the file in bytes, header included.
    """

    target: str
    isa: tuple[int, int]
    size: int


@dataclass(frozen=True)
class Targets:
    """The targets that a library has GPU code for.

    Attributes:
        sass: Targets of machine code, ascending, without ``stray`` ones.
        ptx: Targets of PTX, ascending, without ``stray`` ones.
        ptx_isa: The newest ISA of that PTX, such as "8.5"; "" without PTX.
        stray: Targets that only single kernels were built for (see FEW).
        size: Bytes of all GPU code.
        ptx_isas: The newest ISA of each target of ``ptx``, in its order; empty where all are ``ptx_isa``.
    """

    sass: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    ptx_isa: str = ""
    stray: tuple[str, ...] = ()
    size: int = 0
    ptx_isas: tuple[str, ...] = ()


def targets(data: Readable, sections: Iterable[tuple[int, int]]) -> Targets:
    """Return the targets in ``sections`` of (offset, size) in bytes; damaged ones are read as far as possible."""
    sizes: Counter[str] = Counter()
    newest: dict[str, tuple[int, int]] = {}
    for kernel in kernels(data, sections):
        sizes[kernel.target] += kernel.size
        newest[kernel.target] = max(kernel.isa, newest.get(kernel.target, (0, 0)))
    general = [size for name, size in sizes.items() if name.startswith("sm_") and name[-1].isdigit()]
    largest = max(general or sizes.values(), default=0)
    kept = sorted((name for name, size in sizes.items() if size * FEW >= largest), key=_ascending)
    ptx = tuple(name for name in kept if name.startswith("compute_"))
    isas = [newest[name] for name in ptx]
    return Targets(
        sass=tuple(name for name in kept if name.startswith("sm_")),
        ptx=ptx,
        ptx_isa=_dotted(max(isas)) if isas else "",
        stray=tuple(sorted(sizes.keys() - set(kept), key=_ascending)),
        size=sizes.total(),
        ptx_isas=tuple(map(_dotted, isas)) if len(set(isas)) > 1 else (),
    )


def _dotted(isa: tuple[int, int]) -> str:
    return f"{isa[0]}.{isa[1]}"


def _ascending(target: str) -> tuple[str, int, str]:
    kind, _, rest = target.partition("_")
    digits = rest.rstrip("af")
    return kind, int(digits), rest


def kernels(
    data: Readable, sections: Iterable[tuple[int, int]], max_headers: int = MOST_HEADERS
) -> Iterator[Kernel]:
    """Yield every entry of the sections; one that is cut off or invalid ends its container, without an error.

    Args:
        data: The bytes of the library.
        sections: (offset, size) of each section, in bytes.
        max_headers: The maximum number of headers to read.
    """
    left = max_headers
    for offset, size in sections:
        end = min(offset + size, len(data))
        position = offset
        while left > 0 and position + _CONTAINER.size <= end:
            magic, version, header, length = _CONTAINER.unpack(data[position : position + _CONTAINER.size])
            left -= 1
            if magic != MAGIC:
                position = _find(data, position + 1, end)
                continue
            position += max(header, _CONTAINER.size)
            stop = min(position + length, end)
            while version == 1 and left > 0 and position + _ENTRY.size <= stop:
                left -= 1
                kernel, taken = _entry(data, position)
                if not taken:
                    break
                if kernel is not None:
                    yield kernel
                position += taken
            position = stop


def _find(data: Readable, start: int, end: int) -> int:
    """Return the offset of the next container, or ``end`` when there is none near."""
    found = bytes(data[start : min(start + _WIDEST_GAP, end)]).find(MAGIC)
    return end if found < 0 else start + found


def _entry(data: Readable, position: int) -> tuple[Kernel | None, int]:
    """Return the entry at ``position`` and its size in bytes.

    The entry is None when it is neither SASS nor PTX; the size is 0 when there is no valid entry.
    """
    kind, _, header, payload, _, _, minor, major, arch, _, _, flags = _ENTRY.unpack(
        data[position : position + _ENTRY.size]
    )
    if header < _LEAST_ENTRY or header > _WIDEST_GAP:
        return None, 0
    size = header + payload
    if kind not in (_PTX, _SASS) or not 10 <= arch < 1000:
        return None, size
    suffix = "a" if flags & _ARCH_SPECIFIC else "f" if flags & _FAMILY_SPECIFIC else ""
    if kind == _SASS:
        return Kernel(f"sm_{arch}{suffix}", (0, 0), size), size
    return Kernel(f"compute_{arch}{suffix}", (major, minor), size), size
