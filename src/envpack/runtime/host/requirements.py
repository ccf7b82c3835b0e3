"""The requirements of a bundle: a statement in its spec overrides what was found in its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.needs import DetectedNeeds, Evidence
from envpack.runtime.host.minimum import NAMES, Minimum, parse_need

STATED = "its spec requires it"
"""The evidence for a requirement that a spec states."""

_OF_GPUS = ("cuda", "driver", "compute_capability", "gpu_memory")


@dataclass(frozen=True)
class Requirements:
    """The requirements of one bundle.

    Attributes:
        title: The bundle's name and version.
        subdir: conda's subdir that the bundle is for.
        stated: The requirements in the spec's ``requires``, by name.
        unreadable: Those that this version of envpack can't read, as the manifest has them, by name.
        needs: The requirements found in the bundle's files.
        torch: Whether PyTorch is in the environment.
        size: The disk space that its files need, in bytes.
    """

    title: str
    subdir: str
    stated: Mapping[str, Minimum] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    needs: DetectedNeeds = field(default_factory=DetectedNeeds)
    torch: bool = False
    size: int = 0

    @property
    def cuda(self) -> Evidence | None:
        """Return the CUDA version that decides, with its evidence; None when there is none."""
        stated = self.stated.get("cuda")
        return Evidence(str(stated.minimum), STATED) if stated is not None else self.needs.cuda

    @property
    def gpu(self) -> bool:
        """Return whether the bundle needs an NVIDIA GPU, as far as is known."""
        return self.needs.cuda is not None or any(name in self.stated for name in _OF_GPUS)


def wanted_of(manifest: Manifest) -> Requirements:
    """Return the requirements of the bundle with this manifest."""
    read = {name: _read(name, text) for name, text in manifest.requires.items()}
    return Requirements(
        title=f"{manifest.name} {manifest.version}",
        subdir=manifest.subdir,
        stated={name: need for name, need in read.items() if need is not None},
        unreadable={name: manifest.requires[name] for name, need in read.items() if need is None},
        needs=manifest.needs,
        torch=any(package.name in ("torch", "pytorch") for package in manifest.packages),
        size=max(manifest.size, manifest.needs.disk),
    )


def _read(name: str, text: str) -> Minimum | None:
    try:
        return parse_need(name, text) if name in NAMES else None
    except ValueError:
        return None
