"""The build of a prefix from a spec or a lock: conda packages, then the pip section, then byte code."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envpack.build.backends import Backend, RattlerBackend
from envpack.build.bytecode import Compiled, compile_prefix
from envpack.build.pip import forget_build_machine, install_pip
from envpack.lock import Lock, LockedPlatform, solve_lock
from envpack.lock.target import current_platform
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter
from envpack.spec import EnvSpec

_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_POST_LINK = re.compile(r"bin/\.(.+)-post-link\.sh")


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
    compiled: Compiled | None


def build_prefix(
    source: EnvSpec | Lock,
    prefix: Path,
    *,
    backend: Backend | None = None,
    channels: Sequence[str] = (),
    index_url: str | None = None,
    reporter: Reporter | None = None,
    cache_dir: Path | None = None,
) -> BuildResult:
    """Build ``source`` into ``prefix``.

    A spec is locked first; a lock is used as it is. On failure and on an interrupt ``prefix`` is removed.

    Args:
        source: A spec or a lock.
        prefix: The prefix, which must be absent or an empty folder; see `choose_prefix` for its path.
        backend: Installs the conda packages, by default rattler.
        channels: Channels that replace those of a spec.
        index_url: The package index that replaces that of a spec. With a lock it only serves what a source
            distribution needs to be built.
        reporter: Shows the progress and warnings.
        cache_dir: The folder for downloads (in ``pkgs`` and ``uv``), None for rattler's and uv's own caches.

    Raises:
        BuildError: The environment can't be built; the message gives the reason.
    """
    reporter = reporter or Reporter()
    backend = backend or RattlerBackend()
    uv_cache = cache_dir.absolute() / "uv" if cache_dir else None
    prefix = prefix.absolute()
    if prefix.exists() and (not prefix.is_dir() or any(prefix.iterdir())):
        raise BuildError(f"{prefix} exists and is not empty", hint="Choose another folder, or remove it.")
    if isinstance(source, EnvSpec):
        platform = _platform(source.platform)
        lock = solve_lock(
            source,
            platforms=[platform],
            channels=channels,
            index_url=index_url,
            cache_dir=uv_cache,
            reporter=reporter,
        )
    else:
        lock = source
        platform = _platform(source.spec.platform or _only(source))
    locked = lock.platform(platform)
    try:
        return _build(lock, locked, platform, prefix, backend, index_url, reporter, cache_dir, uv_cache)
    except OSError as error:
        _remove(prefix)
        raise BuildError(
            f"the build stopped: {error.strerror or error}",
            hint="Check the free space and the rights of the build and cache folders.",
            details=[str(error)],
        ) from error
    except BaseException:
        _remove(prefix)
        raise


def _remove(prefix: Path) -> None:
    """Delete a prefix until it stays deleted: rattler's threads may still write shortly after a failure."""
    quiet = 0
    for _ in range(100):
        shutil.rmtree(prefix, ignore_errors=True)
        time.sleep(0.02)
        quiet = 0 if prefix.exists() else quiet + 1
        if quiet == 5:
            return


def _build(
    lock: Lock,
    locked: LockedPlatform,
    platform: str,
    prefix: Path,
    backend: Backend,
    index_url: str | None,
    reporter: Reporter,
    cache_dir: Path | None,
    uv_cache: Path | None,
) -> BuildResult:
    backend.install(
        locked,
        platform,
        prefix,
        requested=_requested(lock),
        cache_dir=cache_dir.absolute() / "pkgs" if cache_dir else None,
        reporter=reporter,
    )
    _clean(prefix)
    _warn_of_scripts(locked, prefix, reporter)
    (prefix / "conda-meta").mkdir(parents=True, exist_ok=True)
    if lock.spec.variables:
        # what `conda env config vars set` writes, so that conda's own activation sets them too
        state = {"version": 1, "env_vars": dict(sorted(lock.spec.variables.items()))}
        (prefix / "conda-meta" / "state").write_text(json.dumps(state), encoding="utf-8")
    python = prefix / "bin" / "python"
    if not python.exists():
        if locked.pypi:
            raise BuildError(
                f"{lock.spec.name} has pip packages but no Python to install them into",
                hint="Add python to the dependencies.",
            )
        return BuildResult(prefix, lock, platform, None, None)
    if locked.pypi:
        install_pip(
            lock.spec,
            locked.pypi,
            python,
            prefix.parent / f".{prefix.name[:40]}.pip",
            index_url=index_url,
            cache_dir=uv_cache,
            reporter=reporter,
        )
        for site_packages in prefix.glob("lib/python*/site-packages"):
            forget_build_machine(site_packages, prefix)
    compiled = compile_prefix(prefix, python, reporter=reporter)
    return BuildResult(prefix, lock, platform, python, compiled)


def _platform(name: str | None) -> str:
    """Return the platform to build for; only the machine's own can run the programs that a build runs."""
    here = current_platform()
    if name is not None and name != here:
        raise BuildError(
            f"an environment for {name} can't be built on {here}",
            hint=f"Build it on a {name} machine, or set 'platform: {here}'.",
        )
    return here


def _only(lock: Lock) -> str | None:
    return next(iter(lock.platforms)) if len(lock.platforms) == 1 else None


def _requested(lock: Lock) -> list[str]:
    return [text.split("::", 1)[-1] for text in lock.spec.dependencies]


def _clean(prefix: Path) -> None:
    """Delete the mark of a cache folder, which rattler writes so that backup programs skip it.

    A deployed environment is not a cache.
    """
    tag = prefix / "CACHEDIR.TAG"
    if tag.is_file() and tag.read_bytes().startswith(_CACHE_TAG):
        tag.unlink()


def _warn_of_scripts(locked: LockedPlatform, prefix: Path, reporter: Reporter) -> None:
    names = {record.name.normalized for record in locked.conda}
    found = [_POST_LINK.fullmatch(f"bin/{path.name}") for path in (prefix / "bin").glob(".*-post-link.sh")]
    scripts = sorted(match[1] for match in found if match and match[1] in names)
    if scripts:
        reporter.warn(f"post-link scripts are not run: {', '.join(scripts)}")
