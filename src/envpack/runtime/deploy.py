"""A bundle becomes a deployment, or nothing at all.

The tree is written beside the destination, under a lock that dies with the process, and appears there by one
rename; see ``envpack.runtime.place``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from envpack.runtime.codec import STANDARD, Decoder
from envpack.runtime.durable import sync_filesystem
from envpack.runtime.errors import DeploymentTestError, HostError
from envpack.runtime.extract import extract
from envpack.runtime.host.examine import DEPLOYMENT_PATH, Policy, check_before
from envpack.runtime.host.machine import host_subdir, processors
from envpack.runtime.place import Place
from envpack.runtime.reader import Bundle, open_bundle
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.settle import PREFIX_PATH, check_prefix, tell_activation
from envpack.runtime.source import Repair, Source, Written
from envpack.runtime.version import __version__

__all__ = ["Deployment", "check_platform", "deploy", "deploy_source", "host_subdir", "processors", "run_inside"]


@dataclass(frozen=True)
class Deployment:
    """What was deployed, at its destination. ``size``: bytes of its files; ``seconds``: the whole deployment.

    ``made_by``: the program that made the bundle, or the archive; ``lacks`` and ``repairs``: see ``Written``.
    """

    destination: str
    name: str
    version: str
    bundle: str
    manifest_sha256: str
    files: int
    size: int
    seconds: float
    tests: tuple[str, ...]
    commands: Mapping[str, str]
    made_by: str
    lacks: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.deploy/1``."""
        return {
            **vars(self),
            "tests": list(self.tests),
            "commands": dict(self.commands),
            "lacks": list(self.lacks),
            "repairs": [repair.as_dict() for repair in self.repairs],
        }


def deploy(
    bundle: Path,
    destination: Path,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    run_tests: bool = True,
    decoders: Mapping[str, Decoder] = STANDARD,
    policy: Policy | None = None,
) -> Deployment:
    """Verifies ``bundle``, unpacks it to ``destination``, runs its tests there.

    ``jobs``: threads that verify and decompress (default: the processors this process may use); ``policy``: what
    is asked of this host before anything is unpacked. Raises FormatError or IntegrityError for a bad bundle,
    HostError for a host that can't run it, RelocationError for a destination that can't be written in,
    DestinationError when it exists, is locked or has no space, and DeploymentTestError when a test fails. After
    any error, ``destination`` is as it was before.
    """
    with open_bundle(bundle, decoders) as opened:
        source = _BundleSource(opened, policy or Policy(), reporter)
        return deploy_source(source, destination, reporter=reporter, jobs=jobs, run_tests=run_tests)


def deploy_source(
    source: Source,
    destination: Path,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    run_tests: bool = True,
) -> Deployment:
    """The same for anything that can write an environment into a folder; raises what it raises, too."""
    started = time.monotonic()
    place = Place(destination)
    source.check(str(place.final))
    place.check()
    with place.taken_back_on_error():
        with place.staging(source.size) as staging:
            written = source.write(staging, place.final, reporter, jobs or processors())
            digest = hashlib.sha256(written.manifest_bytes).hexdigest()
            _record(staging, place.final, source, digest, written.host_check)
            sync_filesystem(staging)
            place.commit()
        manifest = written.manifest
        tests = _run_tests(place.final, manifest.test, reporter) if run_tests else ()
    return Deployment(
        destination=str(place.final),
        name=manifest.name,
        version=manifest.version,
        bundle=source.name,
        manifest_sha256=digest,
        files=manifest.files,
        size=manifest.size,
        seconds=round(time.monotonic() - started, 3),
        tests=tests,
        commands=manifest.commands,
        made_by=written.made_by,
        lacks=written.lacks,
        repairs=written.repairs,
    )


class _BundleSource:
    """An open bundle as what a deployment is made from."""

    def __init__(self, bundle: Bundle, policy: Policy, reporter: Reporter) -> None:
        self._bundle, self._policy, self._reporter = bundle, policy, reporter
        self._host_check: dict[str, Any] = {}
        self.name = bundle.name
        self.size = bundle.manifest.size

    def check(self, prefix: str) -> None:
        manifest = self._bundle.manifest
        self._host_check = check_before(manifest, self.name, Path(prefix), self._policy, self._reporter)
        check_prefix(manifest, prefix)

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> Written:
        manifest = self._bundle.manifest
        total = sum(segment.size for segment in manifest.segments)
        with reporter.step(f"Unpacking {manifest.name} {manifest.version}", total) as step:
            table = extract(self._bundle, root, os.fsencode(prefix), step, jobs)
            step.detail = f"{human_size(manifest.size)} in {manifest.files} files, verified"
        tell_activation(table, os.fsencode(prefix), reporter)
        return Written(manifest, self._bundle.manifest_bytes, manifest.writer, host_check=self._host_check)


def check_platform(subdir: str) -> None:
    """Raises HostError when an environment of this conda subdir can't run on this host."""
    if subdir not in (host_subdir(), "noarch"):
        raise HostError(
            f"the bundle is for {subdir}, and this host is {host_subdir()}",
            hint=f"Build it for this host: 'platform: {host_subdir()}' in the spec.",
        )


def _record(
    staging: Path, final: Path, source: Source, manifest_sha256: str, host_check: Mapping[str, Any]
) -> None:
    (staging / PREFIX_PATH).write_bytes(os.fsencode(final) + b"\n")
    record = {
        "schema": "envpack.deployment/1",
        "bundle": os.path.abspath(source.name),
        "manifest_sha256": manifest_sha256,
        "deployed": int(time.time()),
        "by": f"envpack {__version__}",
        **({"check": dict(host_check)} if host_check else {}),
    }
    (staging / DEPLOYMENT_PATH).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def _run_tests(root: Path, commands: tuple[str, ...], reporter: Reporter) -> tuple[str, ...]:
    for command in commands:
        with reporter.step(f"Testing: {command}", unit="commands"):
            run_inside(root, command)
    return commands


def run_inside(root: Path, command: str) -> None:
    """Runs a shell command in the activated environment; raises DeploymentTestError with the end of its output.

    Nothing is byte-compiled meanwhile, so that a test leaves no trace in the deployment; the host has been checked
    already, or was not to be.
    """
    script = '. "$1/bin/activate" && eval "$2"'
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ENVPACK_SKIP_CHECK": "1"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(root), command],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that an interrupt ends what the command has started, too
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        output = said.decode("utf-8", "replace").splitlines()
        raise DeploymentTestError(
            f"the bundle's test {command!r} failed with status {process.returncode}; "
            "the deployment was taken away",
            hint="Deploy with --no-test to look at it in place.",
            details=output[-20:],
        )
