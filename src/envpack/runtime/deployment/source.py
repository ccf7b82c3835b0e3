"""The interface of a deployment's source: a bundle, or a format that ``envpack.interop`` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Protocol

from envpack.runtime.format.manifest import Manifest
from envpack.runtime.report import Reporter


@dataclass(frozen=True)
class Fixup:
    """A correction of something that another tool left wrong: its kind, its reason, and the corrected files."""

    kind: str
    reason: str
    paths: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "reason": self.reason, "paths": list(self.paths)}


@dataclass(frozen=True)
class DeployedTree:
    """An environment that a source has written into a folder.

    Args:
        manifest: Its manifest.
        manifest_bytes: The same, as written into the folder.
        made_by: The program, with its version, that made the source.
        missing_guarantees: What could not be checked or known because the source does not state it, one
            sentence each.
        repairs: What was corrected.
        host_check: How the host was checked, for the record of the deployment.
        read: Bytes of the source that were read, without head and manifest.
        stored: Bytes of the source that there were to read.
        store: The folder of the store that the files are shared with, or "".
    """

    manifest: Manifest
    manifest_bytes: bytes
    made_by: str
    missing_guarantees: tuple[str, ...] = ()
    repairs: tuple[Fixup, ...] = ()
    host_check: Mapping[str, Any] = field(default_factory=dict)
    read: int = 0
    stored: int = 0
    store: str = ""


class Source(Protocol):
    """A file from which an environment can be deployed.

    Attributes:
        name: The file, as given by the user.
        origin: The same, as the record of the deployment names it.
        size: Bytes that must be free on the destination's disk.
        tests: The test commands of the environment, as far as they are known before it is unpacked.
    """

    name: str
    tests: tuple[str, ...]
    origin: str
    size: int

    def check(self, prefix: str) -> None:
        """Raise HostError or RelocationError for a problem that is known without unpacking."""

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> DeployedTree:
        """Write the environment into a folder, with manifest and paths table.

        Args:
            root: A folder that is empty except for its lock. When an error is raised, the caller removes what was
                written.
            prefix: The prefix to write into the files.
            reporter: Receives progress and warnings.
            jobs: The number of processes or threads.
        """
