"""The build of a prefix from a spec or a lock: conda packages, then the pip section, then byte code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from envpack.build.activation import activated
from envpack.build.backends import Backend, InstallJob, RattlerBackend
from envpack.build.bytecode import CompileResult, compile_prefix
from envpack.build.conda_meta import record_bytecode, write_history, write_metadata
from envpack.build.location import choose_prefix
from envpack.build.pip import install_pip
from envpack.lock.model import Lock, LockedPlatform
from envpack.lock.pip import BuildEnvironment
from envpack.lock.solve import Link, PackageSources, solve_lock
from envpack.lock.target import current_platform, split_channel
from envpack.runtime.errors import BuildError
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter
from envpack.spec.model import EnvSpec

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_POST_LINK = re.compile(r"\.(.+)-post-link\.sh")


@dataclass(frozen=True)
class BuildResult:
    """A finished prefix and the lock it was built from.

    Attributes:
        prefix: The prefix.
        lock: The lock.
        platform: The platform of the lock that was built.
        python: The interpreter of the prefix, None in an environment without one.
        compiled: The result of byte-compilation, None without an interpreter.
    """

    prefix: Path
    lock: Lock
    platform: str
    python: Path | None
    compiled: CompileResult | None


def build_prefix(
    source: EnvSpec | Lock,
    prefix: Path,
    *,
    backend: Backend | None = None,
    sources: PackageSources | None = None,
    reporter: Reporter | None = None,
    cache_dir: Path | None = None,
) -> BuildResult:
    """Build ``source`` into ``prefix``.

    A spec is locked first; a lock is used as it is. On failure and on an interrupt ``prefix`` is removed.

    Args:
        source: A spec or a lock.
        prefix: The prefix, which must be absent or an empty folder; see `choose_prefix` for its path.
        backend: Installs the conda packages, by default rattler.
        sources: Sources that replace those of a spec. With a lock its package index only serves what a source
            distribution needs to be built.
        reporter: Shows the progress and warnings.
        cache_dir: The folder for downloads (in ``pkgs`` and ``uv``), None for rattler's and uv's own caches.

    Raises:
        BuildError: The environment can't be built; the message gives the reason.
    """
    reporter, sources = reporter or Reporter(), sources or PackageSources()
    caches = _Caches.below(cache_dir)
    prefix = prefix.absolute()
    if prefix.exists() and (not prefix.is_dir() or any(prefix.iterdir())):
        raise BuildError(f"{prefix} exists and is not empty", hint="Choose another directory, or remove it.")
    backend = backend or RattlerBackend()
    python = prefix / "bin" / "python"

    def linked(spec: EnvSpec, platform: str, packages: LockedPlatform) -> None:
        requested = [split_channel(text)[1] for text in spec.dependencies]
        job = InstallJob(packages, platform, prefix, requested, caches.conda)
        _install_conda(job, backend, spec.variables, reporter)

    @contextmanager
    def link(platform: str, records: Sequence[RepoDataRecord]) -> Iterator[BuildEnvironment]:
        assert isinstance(source, EnvSpec)
        linked(source, platform, LockedPlatform(tuple(records)))
        yield BuildEnvironment(python, activated(prefix))

    with _removed_on_failure(prefix):
        lock, platform = _lock(source, sources, caches.uv, link, reporter)
        packages = lock.platform(platform)
        if not (prefix / "conda-meta").is_dir():
            linked(lock.spec, platform, packages)
        if packages.pypi:
            _check_python(python, lock.spec.name)
            install_pip(
                lock.spec,
                packages.pypi,
                prefix,
                index_url=sources.index_url,
                cache_dir=caches.uv,
                reporter=reporter,
            )
        elif not python.exists():
            return BuildResult(prefix, lock, platform, None, None)
        compiled = compile_prefix(prefix, python, reporter=reporter)
        record_bytecode(prefix, compiled.compiled)
    return BuildResult(prefix, lock, platform, python, compiled)


def linking_below(work: Path, reporter: Reporter) -> Link:
    """Return a function for `solve_lock` that links conda packages into a prefix below ``work``."""

    @contextmanager
    def link(platform: str, records: Sequence[RepoDataRecord]) -> Iterator[BuildEnvironment]:
        prefix = choose_prefix(work)
        RattlerBackend().install(InstallJob(LockedPlatform(tuple(records)), platform, prefix), reporter)
        yield BuildEnvironment(prefix / "bin" / "python", activated(prefix))

    return link


def _lock(
    source: EnvSpec | Lock, sources: PackageSources, uv_cache: Path | None, link: Link, reporter: Reporter
) -> tuple[Lock, str]:
    """Return the lock to build from, and the platform to build for."""
    if isinstance(source, Lock):
        return source, _build_platform(source.spec.platform or source.only_platform)
    platform = _build_platform(source.platform)
    lock = solve_lock(
        source, platforms=[platform], sources=sources, cache_dir=uv_cache, link=link, reporter=reporter
    )
    return lock, platform


class _Caches(NamedTuple):
    """The folders for downloads, None for the programs' own."""

    conda: Path | None
    uv: Path | None

    @classmethod
    def below(cls, folder: Path | None) -> _Caches:
        return cls(folder.absolute() / "pkgs", folder.absolute() / "uv") if folder else cls(None, None)


@contextmanager
def _removed_on_failure(prefix: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shutil.rmtree(prefix, ignore_errors=True)
        raise BuildError(
            f"the build failed: {error.strerror or error}",
            hint="Check the free space and the permissions of the build and cache directories.",
            details=[str(error)],
        ) from error
    except BaseException:
        shutil.rmtree(prefix, ignore_errors=True)
        raise


def _install_conda(job: InstallJob, backend: Backend, variables: Mapping[str, str], reporter: Reporter) -> None:
    """Install the conda packages, and write the variables of the spec where conda's activation reads them."""
    backend.install(job, reporter)
    _remove_cache_tag(job.prefix)
    _warn_of_scripts(job, reporter)
    conda_meta = job.prefix / "conda-meta"
    conda_meta.mkdir(parents=True, exist_ok=True)
    write_history(job.prefix, job.packages.conda, job.requested)
    if variables:
        # what `conda env config vars set` writes
        state = {"version": 1, "env_vars": dict(sorted(variables.items()))}
        write_metadata(conda_meta / "state", json.dumps(state))


def _check_python(python: Path, name: str) -> None:
    if not python.exists():
        raise BuildError(
            f"{name} has pip packages but no Python to install them into",
            hint="Add python to the dependencies.",
        )


def _build_platform(name: str | None) -> str:
    """Return the platform to build for; only the machine's own can run the programs that a build runs."""
    here = current_platform()
    if name is not None and name != here:
        raise BuildError(
            f"an environment for {name} can't be built on {here}",
            hint=f"Build it on a {name} machine, or set 'platform: {here}'.",
        )
    return here


def _remove_cache_tag(prefix: Path) -> None:
    """Delete the mark of a cache folder, which rattler writes so that backup programs skip it.

    A deployed environment is not a cache.
    """
    tag = prefix / "CACHEDIR.TAG"
    if tag.is_file() and read_file(tag).startswith(_CACHE_TAG):
        tag.unlink()


def _warn_of_scripts(job: InstallJob, reporter: Reporter) -> None:
    names = {record.name.normalized for record in job.packages.conda}
    matches = [_POST_LINK.fullmatch(path.name) for path in (job.prefix / "bin").glob(".*-post-link.sh")]
    scripts = sorted(match[1] for match in matches if match and match[1] in names)
    if scripts:
        reporter.warn(f"post-link scripts are not run: {', '.join(scripts)}")
