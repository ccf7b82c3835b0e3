"""Deployment of a bundle to a new destination, or as the next generation of an existing deployment.

The tree is written to a staging directory beside the destination, under a lock that the kernel releases with the
process, and appears at the destination by one atomic step; after an error, nothing has changed. See
``envpack.runtime.deployment.state``.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from envpack.runtime.commands.bundle_source import BundleSource
from envpack.runtime.commands.check import Policy
from envpack.runtime.commands.destination_checks import require_executable, warn_umask
from envpack.runtime.commands.run_tests import run_bundle_tests
from envpack.runtime.commands.signature_requirement import other_program
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.record import Generation, Record, update_record, write_record
from envpack.runtime.deployment.registry import register, unregister
from envpack.runtime.deployment.retention import prune
from envpack.runtime.deployment.source import DeployedTree, Fixup, Source
from envpack.runtime.deployment.state import DeploymentState, InPlace, warn_of_replaced_directory
from envpack.runtime.deployment.transaction import open_transaction
from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.fs.paths import umask_of
from envpack.runtime.fs.sync import sync_filesystem
from envpack.runtime.fs.working_directory import is_current
from envpack.runtime.host.allowances import PARENT_OWNER, ROOT_HOME
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.store.extraction import plan
from envpack.runtime.store.store import open_store
from envpack.runtime.tree.package_changes import warn_of_lost_packages
from envpack.runtime.tree.prefix import write_prefix
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
    repairs: tuple[Fixup, ...] = ()

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


@dataclass(frozen=True)
class DeployOptions:
    """Options of a deployment, for any source.

    Attributes:
        policy: Policy of the host check, which runs before anything is unpacked.
        run_tests: Whether to run the environment's tests after the switch.
        keep: Number of previous generations to keep.
        wait: Whether to wait for another envpack that has locked the destination, instead of raising an error.
        jobs: Processors to use; None for those this process may use.
        store: Directory of a content-addressed store to share files with other deployments, made when it is
            missing; None to share none. Bundles only.
        mirrors: Paths or URLs to read the bundle's frames from first, see `envpack.runtime.transport.mirrors`.
    """

    policy: Policy = field(default_factory=Policy)
    run_tests: bool = True
    keep: int = KEEP
    wait: bool = False
    jobs: int | None = None
    store: Path | None = None
    mirrors: Sequence[str] = ()


DEFAULTS = DeployOptions()


def deploy(
    bundle: Path | str,
    destination: Path,
    options: DeployOptions = DEFAULTS,
    *,
    reporter: Reporter,
    decoders: Mapping[str, Decoder] = STANDARD,
    approve: Callable[[bytes, Path | str], None] | None = None,
) -> Deployment:
    """Verify ``bundle``, unpack it to ``destination`` and run its tests there.

    A deployment that exists there is replaced in one step and becomes a previous generation. After any error,
    ``destination`` is as it was before.

    Args:
        bundle: A path, a URL, or "-" for standard input; see `envpack.runtime.transport.open.open_source`.
        destination: Directory of the deployment.
        options: How to deploy it.
        reporter: Receives progress and warnings.
        decoders: Decoders by codec name.
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
        _compare_names(opened.manifest, bundle, destination, reporter, signed=approve is not None)
        opened.use_mirrors(options.mirrors, reporter.warn)
        shared = None
        if options.store is not None:
            path = DeploymentState(destination).path
            store = open_store(options.store, path, any_parent=PARENT_OWNER in options.policy.allow)
            stack.enter_context(store.in_use())
            shared = store, plan(opened, store)
        source = BundleSource(opened, options.policy, reporter, shared)
        return deploy_source(source, destination, options, reporter=reporter)


def _compare_names(
    manifest: Manifest, bundle: Path | str, destination: Path, reporter: Reporter, *, signed: bool
) -> None:
    """Warn of a bundle of another program than was asked for; refuse it where its signature was required."""
    current = None
    with suppress(OSError):  # what can't be read is reported below
        current = DeploymentState(destination).current()
    deployed = current.name if current is not None else None
    other = other_program(manifest.name, manifest.version, bundle, deployed)
    if other and signed:
        raise IntegrityError(
            f"{other}; a signature, or a pointer to the latest release, is for one program only",
            hint="Use the bundle's own name, and another destination, or 'envpack remove' the deployment first.",
        )
    if other:
        reporter.warn(other)


def deploy_source(
    source: Source, destination: Path, options: DeployOptions = DEFAULTS, *, reporter: Reporter
) -> Deployment:
    """Deploy from any source that can write an environment into a directory; see `deploy`.

    Args:
        source: The source; the errors that it raises pass through.
        destination: Directory of the deployment.
        options: How to deploy it.
        reporter: Receives progress and warnings.
    """
    started = time.monotonic()
    state, root_home = DeploymentState(destination), ROOT_HOME in options.policy.allow
    in_place = InPlace(destination)
    if in_place.is_possible():
        state = in_place
    source.check(str(state.given))
    stands_there = is_current(state.path)
    state.require_free_or_deployed(root_home)
    warn_umask(state, reporter)
    require_executable(state, source.tests if options.run_tests else (), reporter)
    any_parent = PARENT_OWNER in options.policy.allow
    with exclusive(state, reporter, wait=options.wait, any_parent=any_parent) as deployment:
        deployment.require_free_or_deployed(root_home)
        before = deployment.current()
        if before is not None:
            warn_of_lost_packages(state.path, before.deployed, reporter)
        size = 0 if "disk" in options.policy.allow else source.size
        with open_transaction(deployment, size, before) as new:
            with umask_of(state.path / OWN_FOLDER) if before is not None else nullcontext():
                tree = source.write(new.folder, state.given, reporter, options.jobs or processors())
                record = new_record(deployment, new.generation, tree, source.origin, before, options.run_tests)
                write_prefix(new.folder, str(state.given))
                write_record(new.folder, record)
            with reporter.step("Syncing to disk", unit="files"):
                sync_filesystem(new.folder)
            new.switch()
            register(state.path, reporter)
            tests = tree.manifest.test if options.run_tests else ()
            try:
                run_bundle_tests(state.path, tests, reporter, before)
            except BaseException:
                if before is None:
                    unregister(state.path)
                raise
        if record.tested is None:
            _record_passed(state.path, record, reporter)
        kept = prune(deployment, options.keep, reporter, before)
    if stands_there and not state.in_place:
        warn_of_replaced_directory(state, reporter)
    seconds = round(time.monotonic() - started, 3)
    return result(source.name, tree, record, kept=kept, tests=tests, seconds=seconds)


def new_record(
    deployment: DeploymentState,
    generation: int,
    tree: DeployedTree,
    origin: str,
    before: Record | None,
    run_tests: bool,
) -> Record:
    """Return the record of a generation that is being deployed.

    Args:
        deployment: The deployment that it is a generation of.
        generation: Its number.
        tree: The environment, as its source has written it.
        origin: The source, as the record names it.
        before: Record of the deployment that it replaces, or None.
        run_tests: Whether its tests will be run.
    """
    manifest = tree.manifest
    untested: bool | None = None if run_tests else False
    return Record(
        generation=generation,
        name=manifest.name,
        version=manifest.version,
        bundle=origin,
        manifest_sha256=hashlib.sha256(tree.manifest_bytes).hexdigest(),
        deployed=int(time.time()),
        tested=untested if manifest.test else True,
        by=f"envpack {__version__}",
        size=manifest.size,
        files=manifest.files,
        destination=str(deployment.given),
        replaced=before.generation if before is not None else None,
        check=tree.host_check,
        store=tree.store,
        history=_history(deployment, before),
    )


def _history(deployment: DeploymentState, before: Record | None) -> tuple[Generation, ...]:
    """Return all generations that are known at the destination, oldest first."""
    known: dict[int, Generation] = {}
    for record in [*(kept.record for kept in deployment.kept()), *([before] if before is not None else [])]:
        known.update((item.generation, item) for item in (*record.history, record.summary))
    return tuple(known[generation] for generation in sorted(known))


def _record_passed(root: Path, record: Record, reporter: Reporter) -> None:
    try:
        update_record(root, record, tested=True)
    except OSError as problem:
        reporter.warn(f"the tests passed, but this could not be recorded: {problem.strerror}")


def result(
    bundle: str,
    tree: DeployedTree,
    record: Record,
    *,
    kept: tuple[int, ...],
    tests: tuple[str, ...],
    seconds: float,
) -> Deployment:
    """Return the result of a deployment.

    Args:
        bundle: The source, as given.
        tree: The environment, as the source has written it.
        record: Its record.
        kept: Previous generations that can be switched back to, newest first.
        tests: Test commands that were run.
        seconds: Duration of the whole deployment.
    """
    return Deployment(
        destination=record.destination,
        name=record.name,
        version=record.version,
        bundle=bundle,
        manifest_sha256=record.manifest_sha256,
        generation=record.generation,
        replaced=record.replaced,
        kept=kept,
        files=record.files,
        size=record.size,
        seconds=seconds,
        tests=tests,
        commands=tree.manifest.commands,
        made_by=tree.made_by,
        read=tree.read,
        stored=tree.stored,
        store=record.store,
        lacks=tree.missing_guarantees,
        repairs=tree.repairs,
    )
