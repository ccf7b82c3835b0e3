"""What a bundle asks of a host: what its spec states wins over what was found in its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.needs import Evidence, Needs
from envpack.runtime.host.minimum import NAMES, AtLeast, parse_need

STATED = "its spec requires it"
"""The evidence for what a spec states."""

_OF_GPUS = ("cuda", "driver", "compute_capability", "gpu_memory")


@dataclass(frozen=True)
class Wanted:
    """``stated``: of the spec's ``requires``, by name; ``unreadable``: those this version can't read, as they
    stand; ``torch``: whether PyTorch is in the environment; ``size``: bytes of its files."""

    title: str
    subdir: str
    stated: Mapping[str, AtLeast] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    torch: bool = False
    size: int = 0

    @property
    def cuda(self) -> Evidence | None:
        """The CUDA version that decides, and why."""
        stated = self.stated.get("cuda")
        return Evidence(str(stated.minimum), STATED) if stated is not None else self.needs.cuda

    @property
    def gpu(self) -> bool:
        """Whether it is of no use without an NVIDIA GPU, as far as is known."""
        return self.needs.cuda is not None or any(name in self.stated for name in _OF_GPUS)


def wanted_of(manifest: Manifest) -> Wanted:
    """What the bundle of this manifest asks for."""
    read = {name: _read(name, text) for name, text in manifest.requires.items()}
    return Wanted(
        title=f"{manifest.name} {manifest.version}",
        subdir=manifest.subdir,
        stated={name: need for name, need in read.items() if need is not None},
        unreadable={name: manifest.requires[name] for name, need in read.items() if need is None},
        needs=manifest.needs,
        torch=any(package.name in ("torch", "pytorch") for package in manifest.packages),
        size=max(manifest.size, manifest.needs.disk),
    )


def _read(name: str, text: str) -> AtLeast | None:
    try:
        return parse_need(name, text) if name in NAMES else None
    except ValueError:
        return None
