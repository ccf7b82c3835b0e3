"""The requirements of a bundle: a statement in its spec overrides what was found in its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from envpack.runtime.format.needs import DetectedNeeds, Evidence
from envpack.runtime.host.minimum import Minimum

STATED = "its spec requires it"
"""The evidence for a requirement that a spec states."""


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
