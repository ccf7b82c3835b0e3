"""A bundle as the source of a deployment: unpacked, or shared with other deployments through a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping

from envpack.runtime.commands.check import Policy
from envpack.runtime.commands.deploy_checks import check_before, check_room
from envpack.runtime.deployment.source import DeployedTree
from envpack.runtime.extract.extraction import Extraction
from envpack.runtime.extract.previous import previous_deployment
from envpack.runtime.format.manifest import PathsTable
from envpack.runtime.reader.bundle import Bundle
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.store.extraction import Plan, extract_shared
from envpack.runtime.store.store import Store
from envpack.runtime.tree.prefix import warn_activation_needed


class BundleSource:
    """An open bundle as the source of a deployment (`envpack.runtime.deployment.source.Source`).

    Args:
        bundle: The bundle.
        policy: Policy of the host check.
        reporter: Receives the warnings of the host check.
        shared: The store to share files through, with the plan for this bundle; None to unpack all files.
    """

    def __init__(
        self, bundle: Bundle, policy: Policy, reporter: Reporter, shared: tuple[Store, Plan] | None
    ) -> None:
        self._bundle, self._policy, self._reporter, self._shared = bundle, policy, reporter, shared
        self._host_check: Mapping[str, Any] = {}
        segments = bundle.manifest.segments
        self._total, self._stored = sum(each.size for each in segments), sum(each.stored for each in segments)
        self._title = f"Unpacking {bundle.manifest.name} {bundle.manifest.version}"
        self._detail = f"{human_size(bundle.manifest.size)} in {bundle.manifest.files} files"
        self.name, self.origin, self.tests = bundle.name, bundle.origin, bundle.manifest.test
        self.size = shared[1].size if shared is not None else bundle.manifest.size

    def check(self, prefix: str) -> None:
        manifest = self._bundle.manifest
        checked = check_before(manifest, self.name, Path(prefix), self._policy, self._reporter)
        self._host_check = check_room(manifest, prefix, self._policy, checked, self._reporter)

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> DeployedTree:
        if self._shared is None:
            table, read = self._unpack(root, prefix, reporter, jobs)
        else:
            table, read = self._share(*self._shared, root, prefix, reporter, jobs)
        self._bundle.finish()
        warn_activation_needed(table, os.fsencode(prefix), reporter)
        _warn_copied_links(table, root, reporter)
        return DeployedTree(
            self._bundle.manifest,
            self._bundle.manifest_bytes,
            self._bundle.manifest.writer,
            host_check=self._host_check,
            read=read,
            stored=self._stored,
            store=str(self._shared[0].path) if self._shared is not None else "",
        )

    def _unpack(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> tuple[PathsTable, int]:
        """Unpack all files; return the paths table and the bytes read of the segments."""
        bundle, read = self._bundle, self._stored
        previous = previous_deployment(bundle, prefix)
        with Extraction(bundle, root, os.fsencode(prefix), jobs, previous) as extraction:
            with reporter.step(self._title, self._total) as step:  # after the fork: a bar may have a thread
                given = extraction.finish(step)
                read -= sum(segment.stored for segment in bundle.manifest.segments if segment.id in given)
                part = f", {human_size(read)} of {human_size(self._stored)} read" if given else ""
                step.detail = f"{self._detail}{part}, verified"
            return extraction.table, read

    def _share(
        self, store: Store, planned: Plan, root: Path, prefix: Path, reporter: Reporter, jobs: int
    ) -> tuple[PathsTable, int]:
        """Share files with the store; return the paths table and the bytes read of the segments."""
        with reporter.step(self._title, self._total) as step:
            read = extract_shared(self._bundle, planned, root, prefix, step, jobs, store)
            found = f"{planned.found} of {len(planned.keys)} segments from the store"
            step.detail = f"{self._detail}, {found}"
        return planned.table, read


def _warn_copied_links(table: PathsTable, root: Path, reporter: Reporter) -> None:
    """Warn when the filesystem has no hard links, so that they were written as files of their own."""
    links = [record.path for record in table if record.type == "hardlink"]
    if links and os.lstat(root / links[0]).st_nlink == 1:
        reporter.warn(
            f"the filesystem has no hard links, so {len(links)} of them in the bundle became copies, which need "
            f"more disk space, such as {links[0]}"
        )
