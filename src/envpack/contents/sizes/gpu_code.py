"""The size of GPU code by target, from the headers of the fat binaries in shared libraries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from envpack.prefix.needs.elf import read_elf
from envpack.prefix.needs.fatbin import kernels
from envpack.prefix.scan.windowed_file import Readable
from envpack.runtime.format.needs import GpuCode


class GpuLibrary(NamedTuple):
    """A shared library with GPU code.

    Attributes:
        path: Its path in the environment.
        size: Its bytes.
        names: Its targets as the manifest states them: "sm_90" is machine code, "compute_90" is PTX.
        targets: Bytes of its GPU code by target, which compilers compress; None where it was not read.
    """

    path: str
    size: int
    names: tuple[str, ...]
    targets: Mapping[str, int] | None


@dataclass(frozen=True)
class GpuCodeSizes:
    """The GPU code of an environment, by library; the largest library first."""

    libraries: tuple[GpuLibrary, ...] = ()

    @property
    def unread(self) -> int:
        """Return the number of libraries that were not read."""
        return sum(library.targets is None for library in self.libraries)

    @property
    def size(self) -> int:
        """Return the bytes of the GPU code in the libraries that were read."""
        return sum(sum(library.targets.values()) for library in self.libraries if library.targets)

    def by_target(self) -> dict[str, tuple[int, int]]:
        """Return bytes and number of libraries by target; 0 bytes for libraries that were not read."""
        sizes, counts = Counter[str](), Counter[str]()
        for library in self.libraries:
            counts.update(iter(library.names if library.targets is None else library.targets))
            sizes.update(library.targets or {})
        return {name: (sizes[name], counts[name]) for name in sorted(counts, key=_order)}

    def as_dict(self) -> dict[str, Any]:
        """Return the member ``gpu_code`` of the result; sizes are null where a library was not read."""
        complete = not self.unread
        return {
            "size": self.size if complete else None,
            "targets": [
                {"target": name, "size": size if complete else None, "libraries": count}
                for name, (size, count) in self.by_target().items()
            ],
            "libraries": [
                {
                    "path": library.path,
                    "size": library.size,
                    "targets": list(library.names)
                    if library.targets is None
                    else sorted(library.targets, key=_order),
                    "sizes": None if library.targets is None else dict(library.targets),
                }
                for library in self.libraries
            ],
        }


_TARGET = re.compile(r"(sm|compute)_([0-9]{1,6})([a-z]*)")


def _order(target: str) -> tuple[str, int, str]:
    """Sort machine code before PTX, and both by number; names in a manifest may be anything."""
    match = _TARGET.fullmatch(target)
    return ({"sm": "1", "compute": "2"}[match[1]], int(match[2]), match[3]) if match else ("3", 0, target)


def stated_targets(code: GpuCode) -> tuple[str, ...]:
    """Return all targets of a library that a manifest states, also those of few kernels only."""
    return tuple(sorted({*code.sass, *code.ptx, *code.stray}, key=_order))


def target_sizes(data: Readable) -> dict[str, int]:
    """Return the bytes of GPU code in a shared library, by target; only headers are read."""
    elf = read_elf(data)
    sizes = Counter[str]()
    for kernel in kernels(data, elf.fatbins if elf else ()):
        sizes[kernel.target] += kernel.size
    return dict(sizes)
