"""The requirements of a bundle: what was found in its files, and what its spec requires beyond that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from envpack.runtime.format.needs import DetectedNeeds, Evidence
from envpack.runtime.host.minimum import Minimum
from envpack.runtime.host.versions import at_least

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
    def gpu_optional(self) -> bool:
        """Return whether the environment also runs on hosts without a GPU, as its spec says."""
        stated = self.stated.get("gpu")
        return stated is not None and stated.minimum == "optional"

    @property
    def cuda(self) -> Evidence | None:
        """Return the CUDA version that decides, with its evidence; None when there is none."""
        return self._higher("cuda", self.needs.cuda)

    @property
    def glibc(self) -> Evidence | None:
        """Return the glibc version that decides, with its evidence; None when there is none."""
        return self._higher("glibc", self.needs.glibc)

    def _higher(self, name: str, found: Evidence | None) -> Evidence | None:
        """Return the higher of the stated and the detected version: a spec can raise it, and not lower it."""
        stated = self.stated.get(name)
        if stated is None or (found is not None and at_least(found.value, str(stated.minimum))):
            return found
        return Evidence(str(stated.minimum), STATED)
