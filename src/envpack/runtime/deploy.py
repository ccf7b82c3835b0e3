"""A bundle becomes a deployment, or nothing at all.

The tree is written beside the destination, under a lock that dies with the process, and appears there by one
rename. A staging folder that a crash left is taken over and emptied by the next deployment to that place.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from envpack.runtime.codec import STANDARD, Decoder
from envpack.runtime.durable import sync_filesystem, sync_folder
from envpack.runtime.errors import DeploymentTestError, DestinationError, HostError
from envpack.runtime.extract import extract
from envpack.runtime.locking import locked
from envpack.runtime.model import Manifest
from envpack.runtime.reader import Bundle, open_bundle
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.settle import PREFIX_PATH, check_prefix
from envpack.runtime.version import __version__

DEPLOYMENT_PATH = ".envpack/deployment.json"

SUBDIRS = {
    ("Linux", "x86_64"): "linux-64",
    ("Linux", "aarch64"): "linux-aarch64",
    ("Linux", "ppc64le"): "linux-ppc64le",
    ("Darwin", "x86_64"): "osx-64",
    ("Darwin", "arm64"): "osx-arm64",
}
"""conda's subdir for each (kernel, machine) of uname(2); conda/base/context.py."""


@dataclass(frozen=True)
class Deployment:
    """A bundle at its destination. ``size``: bytes of the bundle's files; ``seconds``: the whole deployment."""

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

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.deploy/1``."""
        return {**vars(self), "tests": list(self.tests), "commands": dict(self.commands)}


def deploy(
    bundle: Path,
    destination: Path,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    run_tests: bool = True,
    decoders: Mapping[str, Decoder] = STANDARD,
) -> Deployment:
    """Verifies ``bundle``, unpacks it to ``destination``, runs its tests there.

    ``jobs``: threads that verify and decompress (default: the processors this process may use). Raises
    FormatError or IntegrityError for a bad bundle, HostError for a host that can't run it, RelocationError for a
    destination that can't be written in, DestinationError when it exists, is locked or has no space, and
    DeploymentTestError when a test fails. After any error, ``destination`` is as it was before.
    """
    started = time.monotonic()
    with open_bundle(bundle, decoders) as opened:
        manifest = opened.manifest
        _check_host(manifest)
        place = _Place(destination)
        check_prefix(manifest, str(place.final))
        place.check()
        with place.taken_back_on_error():
            with place.staging(manifest.size) as staging:
                _unpack(opened, staging, place.final, reporter, jobs or processors())
                _record(staging, place.final, opened)
                sync_filesystem(staging)
                place.commit()
            tests = _run_tests(place.final, manifest.test, reporter) if run_tests else ()
    return Deployment(
        destination=str(place.final),
        name=manifest.name,
        version=manifest.version,
        bundle=str(bundle),
        manifest_sha256=_manifest_digest(opened),
        files=manifest.files,
        size=manifest.size,
        seconds=round(time.monotonic() - started, 3),
        tests=tests,
        commands=manifest.commands,
    )


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_subdir() -> str:
    """This host's conda subdir, such as linux-64."""
    return SUBDIRS.get((platform.system(), platform.machine()), f"{platform.system()}-{platform.machine()}")


def _check_host(manifest: Manifest) -> None:
    if manifest.subdir not in (host_subdir(), "noarch"):
        raise HostError(
            f"the bundle is for {manifest.subdir}, and this host is {host_subdir()}",
            hint=f"Build it for this host: 'platform: {host_subdir()}' in the spec.",
        )


class _Place:
    """The destination, and the staging folder beside it: same filesystem, so that a rename is enough."""

    def __init__(self, destination: Path) -> None:
        given = Path(os.path.abspath(os.path.expanduser(destination)))
        self.final = Path(os.path.realpath(given.parent)) / given.name
        self._staging = self.final.parent / f".{self.final.name}.envpack-staging"
        self._was_empty_folder = False
        self._made: os.stat_result | None = None
        self._parents: list[Path] = []

    def check(self) -> None:
        final = self.final
        if not final.name:
            raise DestinationError(f"{final} can't be a destination")
        if final.is_symlink() or (final.exists() and not final.is_dir()):
            raise DestinationError(f"{final} exists and is no folder", hint="Choose another destination.")
        if final.is_dir():
            try:
                occupied = any(final.iterdir())
            except OSError as problem:
                raise DestinationError(f"{final}: {problem.strerror}") from None
            if occupied:
                raise DestinationError(
                    f"{final} exists and is not empty; it was left as it is",
                    hint="Choose another destination, or remove it first.",
                )
            self._was_empty_folder = True

    @contextmanager
    def staging(self, size: int) -> Iterator[Path]:
        """The staging folder, locked and empty; gone afterwards unless committed."""
        self._make_parents()
        try:
            self._staging.mkdir(mode=0o700, exist_ok=True)
        except OSError as problem:
            raise DestinationError(
                f"can't write to {self._staging.parent}: {problem.strerror}",
                hint="Choose a destination you may write to, or ask for permission.",
            ) from None
        with locked(self._staging / ".lock", wait=False):
            self._made = os.stat(self._staging)
            try:
                _empty(self._staging)
                self._check_space(size)
                yield self._staging
            except OSError as problem:
                raise DestinationError(f"can't write to {self._staging.parent}: {problem.strerror}") from problem
            finally:
                if self._staging.exists():
                    _remove(self._staging)

    def _make_parents(self) -> None:
        missing = []
        parent = self.final.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            self._parents.append(folder)
            try:
                folder.mkdir(exist_ok=True)
            except OSError as problem:
                raise DestinationError(f"can't make {folder}: {problem.strerror}") from None

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._staging).free
        if free < size:
            raise DestinationError(
                f"{self._staging.parent} has {human_size(free)} free, and the bundle needs {human_size(size)}",
                hint="Free some space, or choose a destination on another disk.",
            )

    def commit(self) -> None:
        """The one moment at which the destination appears."""
        (self._staging / ".lock").unlink()
        os.chmod(self._staging, 0o777 & ~_umask())
        try:
            os.rename(self._staging, self.final)
        except OSError as problem:
            raise DestinationError(f"{self.final} appeared meanwhile: {problem.strerror}") from None
        sync_folder(self.final.parent)

    @contextmanager
    def taken_back_on_error(self) -> Iterator[None]:
        """Puts everything back as it was when the block fails, before or after the commit."""
        try:
            yield
        except BaseException:
            if self._is_committed():
                os.rename(self.final, self._staging)
                _remove(self._staging)
                if self._was_empty_folder:
                    self.final.mkdir()
            for folder in reversed(self._parents):
                _remove_if_empty(folder)
            raise

    def _is_committed(self) -> bool:
        """Asks the filesystem: an interrupt may come right after the rename, before anything was noted."""
        try:
            return self._made is not None and os.path.samestat(os.stat(self.final), self._made)
        except OSError:
            return False


def _unpack(bundle: Bundle, staging: Path, final: Path, reporter: Reporter, jobs: int) -> None:
    total = sum(segment.size for segment in bundle.manifest.segments)
    with reporter.step(f"Unpacking {bundle.manifest.name} {bundle.manifest.version}", total) as step:
        extract(bundle, staging, os.fsencode(final), step, jobs)
        step.detail = f"{human_size(bundle.manifest.size)} in {bundle.manifest.files} files, verified"


def _record(staging: Path, final: Path, bundle: Bundle) -> None:
    (staging / PREFIX_PATH).write_bytes(os.fsencode(final) + b"\n")
    record = {
        "schema": "envpack.deployment/1",
        "bundle": os.path.abspath(bundle.name),
        "manifest_sha256": _manifest_digest(bundle),
        "deployed": int(time.time()),
        "by": f"envpack {__version__}",
    }
    (staging / DEPLOYMENT_PATH).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def _manifest_digest(bundle: Bundle) -> str:
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()


def _run_tests(root: Path, commands: tuple[str, ...], reporter: Reporter) -> tuple[str, ...]:
    for command in commands:
        with reporter.step(f"Testing: {command}", unit="commands"):
            run_inside(root, command)
    return commands


def run_inside(root: Path, command: str) -> None:
    """Runs a shell command in the activated environment; raises DeploymentTestError with the end of its output.

    Nothing is byte-compiled meanwhile, so that a test leaves no trace in the deployment.
    """
    script = '. "$1/bin/activate" && eval "$2"'
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
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


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.name == ".lock":
            continue
        if entry.is_dir(follow_symlinks=False):
            _remove(Path(entry.path))
        else:
            os.unlink(entry.path)


def _remove(folder: Path) -> None:
    """Removes a tree, folders without write permission too."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
