"""Deployment of a bundle to a new destination, or as the next generation of an existing deployment.

The tree is written to a staging directory beside the destination, under a lock that the kernel releases with the
process, and appears at the destination by one atomic step; after an error, nothing has changed. See
``envpack.runtime.deployment.state``.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

from envpack.runtime.commands.check import Policy, check_before
from envpack.runtime.commands.run_tests import run_bundle_tests
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.protected_paths import ROOT_HOME
from envpack.runtime.deployment.record import Entry, Record, note, write_record
from envpack.runtime.deployment.registry import register
from envpack.runtime.deployment.retention import prune
from envpack.runtime.deployment.source import DeployedTree, Repair, Source
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.deployment.transaction import open_transaction
from envpack.runtime.errors import HostError
from envpack.runtime.extract.extraction import Extraction
from envpack.runtime.extract.previous import previous_deployment
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.fs.sync import sync_filesystem
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.store.extraction import Plan, extract_shared, plan
from envpack.runtime.store.store import Store, open_store
from envpack.runtime.tree.prefix import check_prefix, warn_activation_needed, write_prefix
from envpack.runtime.version import __version__


@dataclass(frozen=True)
class Deployment:
    """The result of a deployment.

    Attributes:
        destination: Absolute path of the deployment.
        name: Name of the environment.
        version: Version of the environment.
        bundle: The bundle, as given.
        manifest_sha256: Digest of the manifest, in hexadecimal.
        generation: Number of this deployment at its destination.
        replaced: Generation that it replaced, or None.
        kept: Previous generations that can be switched back to, newest first.
        files: Number of files, as the manifest states it.
        size: Bytes of the files.
        seconds: Duration of the whole deployment.
        tests: Test commands that were run.
        commands: Commands of the environment, as its manifest lists them.
        made_by: Program that made the bundle, or the archive.
        read: Bytes that were read of the source, without head and manifest.
        stored: Bytes that there were to read.
        store: Directory of the store that the files are shared with, or "".
        lacks: Facts that could not be checked or known because the source does not state them, one sentence each.
        repairs: Defects that another tool left in the source and that the deployment corrected.
    """

    destination: str
    name: str
    version: str
    bundle: str
    manifest_sha256: str
    generation: int
    replaced: int | None
    kept: tuple[int, ...]
    files: int
    size: int
    seconds: float
    tests: tuple[str, ...]
    commands: Mapping[str, str]
    made_by: str
    read: int
    stored: int
    store: str
    lacks: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.deploy/1``."""
        return {
            **vars(self),
            "kept": list(self.kept),
            "tests": list(self.tests),
            "commands": dict(self.commands),
            "lacks": list(self.lacks),
            "repairs": [repair.as_dict() for repair in self.repairs],
        }


KEEP = 1
"""Default number of previous generations to keep."""


def deploy(
    bundle: Path | str,
    destination: Path,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    run_tests: bool = True,
    decoders: Mapping[str, Decoder] = STANDARD,
    policy: Policy | None = None,
    keep: int = KEEP,
    wait: bool = False,
    store: Path | None = None,
    approve: Callable[[bytes, Path | str], None] | None = None,
) -> Deployment:
    """Verify ``bundle``, unpack it to ``destination`` and run its tests there.

    A deployment that exists there is replaced in one step and becomes a previous generation. After any error,
    ``destination`` is as it was before.

    Args:
        bundle: A path, a URL, or "-" for standard input; see `envpack.runtime.transport.open.open_source`.
        destination: Directory of the deployment.
        reporter: Receives progress and warnings.
        jobs: Processors to use (default: those this process may use).
        run_tests: Whether to run the bundle's tests after the switch.
        decoders: Decoders by codec name.
        policy: Policy of the host check, which runs before anything is unpacked (default: `Policy()`).
        keep: Number of previous generations to keep.
        wait: Whether to wait for another envpack that has locked the destination, instead of raising an error.
        store: Directory of a content-addressed store to share files with other deployments; made when it is
            missing.
        approve: Called first, with the manifest's bytes and ``bundle``; raises when the bundle may not be
            deployed.

    Raises:
        FormatError: The bundle is not one that can be read.
        IntegrityError: The bundle is damaged.
        HostError: This host can't run the environment.
        RelocationError: The prefix of the destination can't be written into the files.
        DestinationError: Something else is at the destination, another envpack has locked it, or the disk is full.
        DeploymentTestError: A test failed.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(open_bundle(bundle, decoders))
        if approve is not None:
            approve(opened.manifest_bytes, bundle)
        final = DeploymentState(destination).path
        shared = open_store(store, final) if store is not None else None
        if shared is not None:
            stack.enter_context(shared.in_use())
        planned = plan(opened, shared, final) if shared is not None else None
        source = _BundleSource(opened, policy or Policy(), reporter, shared, planned)
        return deploy_source(
            source,
            destination,
            reporter=reporter,
            jobs=jobs,
            run_tests=run_tests,
            keep=keep,
            wait=wait,
            root_home=policy is not None and ROOT_HOME in policy.allow,
        )


def deploy_source(
    source: Source,
    destination: Path,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    run_tests: bool = True,
    keep: int = KEEP,
    wait: bool = False,
    root_home: bool = False,
) -> Deployment:
    """Deploy from any source that can write an environment into a directory; see `deploy`.

    Args:
        source: The source; the errors that it raises pass through.
        destination: Directory of the deployment.
        reporter: Receives progress and warnings.
        jobs: Processors to use (default: those this process may use).
        run_tests: Whether to run the environment's tests after the switch.
        keep: Number of previous generations to keep.
        wait: Whether to wait for another envpack that has locked the destination, instead of raising an error.
        root_home: Whether root may deploy below its own home directory.
    """
    started = time.monotonic()
    state = DeploymentState(destination)
    source.check(str(state.path))
    state.require_free_or_deployed(root_home)
    with exclusive(state, reporter, wait=wait) as deployment:
        state.require_free_or_deployed(root_home)
        before = state.current()
        with open_transaction(deployment, source.size, before) as new:
            written = source.write(new.folder, state.path, reporter, jobs or processors())
            manifest = written.manifest
            untested: bool | None = None if run_tests else False
            record = Record(
                generation=new.generation,
                name=manifest.name,
                version=manifest.version,
                bundle=source.origin,
                manifest_sha256=hashlib.sha256(written.manifest_bytes).hexdigest(),
                deployed=int(time.time()),
                tested=untested if manifest.test else True,
                by=f"envpack {__version__}",
                size=manifest.size,
                files=manifest.files,
                destination=str(state.path),
                replaced=before.generation if before is not None else None,
                check=written.host_check,
                store=written.store,
                history=_history(state, before),
            )
            write_prefix(new.folder, str(state.path))
            write_record(new.folder, record)
            with reporter.step("Writing to the disk", unit="files"):
                sync_filesystem(new.folder)
            new.switch()
            register(state.path, reporter)
            tests = run_bundle_tests(state.path, manifest.test, reporter, before) if run_tests else ()
        if record.tested is None:
            try:
                note(state.path, record, tested=True)
            except OSError as problem:
                reporter.warn(f"that its tests passed could not be noted: {problem.strerror}")
        kept = prune(deployment, keep, reporter, before)
    return Deployment(
        destination=str(state.path),
        name=manifest.name,
        version=manifest.version,
        bundle=source.name,
        manifest_sha256=record.manifest_sha256,
        generation=record.generation,
        replaced=record.replaced,
        kept=kept,
        files=manifest.files,
        size=manifest.size,
        seconds=round(time.monotonic() - started, 3),
        tests=tests,
        commands=manifest.commands,
        made_by=written.made_by,
        read=written.read,
        stored=written.stored,
        store=written.store,
        lacks=written.missing_guarantees,
        repairs=written.repairs,
    )


def _history(state: DeploymentState, before: Record | None) -> tuple[Entry, ...]:
    """Return all generations that are known at the destination, oldest first."""
    known: dict[int, Entry] = {}
    for record in [*(kept.record for kept in state.kept()), *([before] if before is not None else [])]:
        known.update((entry.generation, entry) for entry in (*record.history, record.entry))
    return tuple(known[generation] for generation in sorted(known))


class _BundleSource:
    """An open bundle as the source of a deployment."""

    def __init__(
        self, bundle: Bundle, policy: Policy, reporter: Reporter, store: Store | None, planned: Plan | None
    ) -> None:
        self._bundle, self._policy, self._reporter = bundle, policy, reporter
        self._host_check: dict[str, Any] = {}
        self._store, self._plan = store, planned
        self.name, self.origin = bundle.name, bundle.origin
        self.size = bundle.manifest.size if planned is None else planned.size

    def check(self, prefix: str) -> None:
        manifest = self._bundle.manifest
        self._host_check = check_before(manifest, self.name, Path(prefix), self._policy, self._reporter)
        check_prefix(manifest, prefix)

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> DeployedTree:
        manifest = self._bundle.manifest
        coded = os.fsencode(prefix)
        total = sum(segment.size for segment in manifest.segments)
        stored = read = sum(segment.stored for segment in manifest.segments)
        title = f"Unpacking {manifest.name} {manifest.version}"
        detail = f"{human_size(manifest.size)} in {manifest.files} files, "
        if self._store is not None and self._plan is not None:
            table = self._plan.table
            with reporter.step(title, total) as step:
                read = extract_shared(self._bundle, self._plan, root, prefix, step, jobs, self._store)
                step.detail = detail + f"{self._plan.found} of {len(self._plan.keys)} segments out of the store"
        else:
            former = previous_deployment(self._bundle, prefix)
            with Extraction(self._bundle, root, coded, jobs, former) as extraction:
                table = extraction.table
                with reporter.step(title, total) as step:  # after the fork: a bar may have a thread
                    given = extraction.finish(step)
                    read -= sum(segment.stored for segment in manifest.segments if segment.id in given)
                    part = f"{human_size(read)} of {human_size(stored)} read, " if given else ""
                    step.detail = f"{detail}{part}verified"
        self._bundle.finish()
        warn_activation_needed(table, coded, reporter)
        return DeployedTree(
            manifest,
            self._bundle.manifest_bytes,
            manifest.writer,
            host_check=self._host_check,
            read=read,
            stored=stored,
            store=str(self._store.path) if self._store is not None else "",
        )


def check_platform(subdir: str) -> None:
    """Raise HostError when an environment of this conda subdir can't run on this host."""
    if subdir not in (host_subdir(), "noarch"):
        raise HostError(
            f"the bundle is for {subdir}, and this host is {host_subdir()}",
            hint=f"Build it for this host: 'platform: {host_subdir()}' in the spec.",
        )
