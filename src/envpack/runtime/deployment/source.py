"""What a deployment can be made from, as an interface: a bundle, or what ``envpack.interop`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Protocol

from envpack.runtime.format.manifest import Manifest
from envpack.runtime.report import Reporter


@dataclass(frozen=True)
class Repair:
    """Something another tool left wrong and a deployment puts right: of what kind, why, and in which files."""

    kind: str
    reason: str
    paths: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "reason": self.reason, "paths": list(self.paths)}


@dataclass(frozen=True)
class Written:
    """An environment that was written into a folder; ``manifest_bytes`` lie in it.

    ``made_by``: program and version that made what it came from. ``lacks``: what could not be checked or
    known because nothing there says it, one sentence each. ``host_check``: how the host was checked, to be
    recorded with the deployment. ``read``: bytes that were read of it, head and manifest apart; ``stored``: bytes
    that there were to read. ``store``: the folder of the store that its files are shared with, or "".
    """

    manifest: Manifest
    manifest_bytes: bytes
    made_by: str
    lacks: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    host_check: Mapping[str, Any] = field(default_factory=dict)
    read: int = 0
    stored: int = 0
    store: str = ""


class Source(Protocol):
    """``name``: the file it is, as given; ``origin``: the same, as a deployment records it; ``size``: bytes that
    the destination's disk must have room for."""

    name: str
    origin: str
    size: int

    def check(self, prefix: str) -> None:
        """Raises HostError or RelocationError for what can be known without unpacking."""

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> Written:
        """Writes everything below ``root``, an empty folder (but for its lock), as it is to be at ``prefix``,
        with manifest and paths table. What was written when it raises is the caller's to remove."""
