"""The backends that install a lock's conda packages: rattler, which is built in, conda, mamba and micromamba."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from envpack.build import rattler_process
from envpack.lock.formats.explicit import explicit_text
from envpack.lock.formats.package_urls import url_path
from envpack.lock.model import LockedPlatform
from envpack.lock.solve import CREDENTIALS_HINT, credentials_refused
from envpack.runtime.errors import BuildError
from envpack.runtime.fs.io import open_regular
from envpack.runtime.host.detect.machine import disk
from envpack.runtime.report import Reporter, Step, human_size
from envpack.runtime.transport.redact import without_secrets

if TYPE_CHECKING:
    from rattler import RepoDataRecord

PROGRAMS = ("conda", "mamba", "micromamba")
BACKENDS = ("rattler", *PROGRAMS)


@dataclass(frozen=True)
class InstallJob:
    """The conda packages to install, and where.

    Attributes:
        packages: The locked packages of one platform.
        platform: The platform's conda subdir.
        prefix: The prefix to make.
        requested: The MatchSpecs of the spec, for ``conda-meta``.
        cache_dir: The folder for downloaded packages, None for the program's own.
    """

    packages: LockedPlatform
    platform: str
    prefix: Path
    requested: Sequence[str] = ()
    cache_dir: Path | None = None


class Backend(Protocol):
    """An installer of exactly the conda packages of a locked platform, into a prefix that does not exist yet."""

    name: str

    def install(self, job: InstallJob, reporter: Reporter) -> None:
        """Install the conda packages.

        Args:
            job: The packages and the prefix.
            reporter: Shows the progress.

        Raises:
            BuildError: A package can't be downloaded, verified or linked.
        """


def choose_backend(name: str) -> Backend:
    """Return the backend with this name.

    Raises:
        BuildError: There is no such backend, or its program is not on the PATH.
    """
    if name == "rattler":
        return RattlerBackend()
    if name not in PROGRAMS:
        raise BuildError(f"there is no backend {name!r}", hint=f"Choose one of {', '.join(BACKENDS)}.")
    program = shutil.which(name)
    if program is None:
        raise BuildError(
            f"the backend {name} needs the program {name}, which is not on the PATH",
            hint="Install it, or omit --backend to use the built-in backend.",
        )
    return CommandBackend(name, program)


class RattlerBackend:
    """The backend rattler, through py-rattler in a process of its own.

    It hard-links from its package cache, writes ``conda-meta`` and runs no scripts.
    """

    name = "rattler"

    def install(self, job: InstallJob, reporter: Reporter) -> None:
        records = job.packages.conda
        check_local_packages(records)
        cache = job.cache_dir or rattler_process.default_cache()
        request = rattler_process.Request(records, job.prefix, cache, job.platform, job.requested)
        total = sum(record.size or 0 for record in records)
        with reporter.step("Linking conda packages", total=total or None) as step:
            try:
                rattler_process.install(request, InstallProgress(step, records))
            except rattler_process.InstallError as error:
                raise install_failure(error, [job.prefix, cache]) from None
            step.detail = f"{len(records)} packages"


class InstallProgress:
    """The progress of an installation: shows in a Step how many bytes of the packages are linked.

    A package counts as its download proceeds, or as a whole when it was in the cache.
    """

    def __init__(self, step: Step, records: Sequence[RepoDataRecord]) -> None:
        self._step = step
        self._sizes = {record.name.normalized: record.size or 0 for record in records}
        self._reported: dict[str, int] = {}

    def __call__(self, event: rattler_process.Event) -> None:
        """Take one event of ``install_worker.Events``."""
        if event[0] == "downloaded":
            self._report(event[1], event[2])
        elif event[0] == "linked":
            self._report(event[1], self._sizes.get(event[1], 0))

    def _report(self, name: str, done: int) -> None:
        more = min(done, self._sizes.get(name, 0)) - self._reported.get(name, 0)
        if more > 0:
            self._reported[name] = self._reported.get(name, 0) + more
            self._step.advance(more)


def check_local_packages(records: Sequence[RepoDataRecord]) -> None:
    """Verify the packages of local channels by their locked sha256: rattler verifies only those it downloads.

    Raises:
        BuildError: Packages differ; the details name each one.
    """
    mismatches = []
    for record in records:
        path = url_path(record.url)
        if path is None or not record.sha256 or not path.is_file():
            continue
        with open(path, "rb", opener=open_regular) as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        if digest.digest() != record.sha256:
            mismatches.append(f"{path}: sha256 is {digest.hexdigest()}, not {record.sha256.hex()}")
    if mismatches:
        raise _mismatch_error(f"{Path(mismatches[0].split(':')[0]).name}", mismatches)


def _mismatch_error(name: str, details: Sequence[str]) -> BuildError:
    return BuildError(
        f"{name} is not the package that was locked",
        hint="The channel has replaced it, or it is damaged. Try again, or lock again.",
        details=details,
    )


def install_failure(error: BaseException, folders: Sequence[Path] = ()) -> BuildError:
    """Return a failure of rattler as an error for users, with the chain of causes as details.

    ``folders`` are those that it wrote to.
    """
    text = without_secrets(str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if "hash mismatch" in text or "Invalid checksum" in text:
        return _mismatch_error(first.removeprefix("failed to fetch "), lines[1:])
    if "No space left" in text:
        return BuildError(
            "the disk is full",
            hint="Free some disk space, or build on another disk: --work-dir for the environment, "
            "RATTLER_CACHE_DIR for the package cache.",
            details=[*(f"{human_size(free)} free at {place}" for place, free in map(disk, folders)), *lines],
        )
    hint = "Check that the channel still has the package and can be reached."
    if first.startswith("failed to link "):
        hint = "The package may be damaged. Use another version of it, or report it to the owner of the channel."
    elif first.startswith("failed to acquire global cache lock"):
        hint = "Check the permissions of the package cache, or set RATTLER_CACHE_DIR to another directory."
    return BuildError(
        f"the conda packages can't be installed: {first}",
        hint=CREDENTIALS_HINT if credentials_refused(text) else hint,
        details=lines[1:],
    )


class CommandBackend:
    """The backend that runs conda, mamba or micromamba with an exact list of packages.

    The program downloads, verifies md5 and links, and solves nothing.
    """

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._program = program

    def arguments(self, prefix: Path, explicit: Path) -> list[str]:
        """Return the command line that installs the packages listed in ``explicit`` into ``prefix``."""
        return [self._program, "create", "--yes", "--quiet", "--prefix", str(prefix), "--file", str(explicit)]

    def install(self, job: InstallJob, reporter: Reporter) -> None:
        explicit = job.prefix.parent / "explicit.txt"
        explicit.parent.mkdir(parents=True, exist_ok=True)
        explicit.write_text(explicit_text(job.packages, job.platform), encoding="utf-8")
        try:
            with reporter.step(f"Linking conda packages with {self.name}") as step:
                process = subprocess.run(
                    self.arguments(job.prefix, explicit), capture_output=True, text=True, errors="replace"
                )
                if process.returncode != 0:
                    tail = without_secrets(process.stdout + process.stderr).strip().splitlines()[-30:]
                    raise BuildError(
                        f"{self.name} could not install the packages (exit {process.returncode})", details=tail
                    )
                step.detail = f"{len(job.packages.conda)} packages"
        finally:
            explicit.unlink(missing_ok=True)
