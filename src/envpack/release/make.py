"""From a spec or a lock to a finished bundle: build in a work folder, pack, test, remove everything else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.publish.local import LocalFolder, checksum_path, publish, sha256_of
from envpack.publish.names import SUFFIXES, BundleName
from envpack.release.names import build_date, source_date_epoch
from envpack.release.work import work_folder, work_root
from envpack.runtime.errors import UsageError
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.prefix.scan.prune import Selection
    from envpack.runtime.format.manifest import Manifest

DEFAULT_FOLDER = Path("dist")
"""The default folder of bundles, relative to the working directory."""


@dataclass(frozen=True)
class Recipe:
    """The settings for making a bundle from a spec or lock; the defaults are the command line's.

    Args:
        source: The spec or the lock.
        environ: Environment variables: SOURCE_DATE_EPOCH, and those that locate the work and cache folders.
        environment: The environment of a lock that has several; None for the only one, or "default".
        channels: conda channels that replace the spec's.
        index_url: The package index of the pip section; None for PyPI.
        backend: The program that installs conda packages.
        format: A key of `SUFFIXES`.
        level: The level of the codec; None for its default.
        jobs: Threads.
        work: The folder to build the prefix in; None for `work_root`.
        strict: See `PackSettings`.
        test: Whether the bundle's tests are run before it is published.
        cache: Whether segments packed before are reused, and new ones stored in the cache.
    """

    source: Path
    environ: Mapping[str, str]
    environment: str | None = None
    channels: tuple[str, ...] = ()
    index_url: str | None = None
    backend: str = "rattler"
    format: str = "gz"
    level: int | None = None
    jobs: int | None = None
    work: Path | None = None
    strict: bool = False
    test: bool = True
    cache: bool = True


@dataclass(frozen=True)
class Made:
    """A published bundle.

    Args:
        bundle: The path of the bundle.
        checksum: That of its ``.sha256``.
        sha256: The digest of the bundle, in hex.
        file_size: Bytes of the bundle.
        manifest: Its manifest.
        selection: The rules for files to leave out, with the number of files each left out.
        seconds: The time of all steps.
        manifest_file: That of its ``.manifest.json``; only for a release.
        sbom: That of its ``.cdx.json``; only for a release.
        signature: That of its ``.minisig``; only for a signed release.
        notes: That of its ``.notes.md``; only for a release that has a predecessor.
        published: The paths or URLs of the bundle in the targets that it was published to.
        latest: Those of the pointers to the latest release there; "" for a target that has none.
    """

    bundle: str
    checksum: str
    sha256: str
    file_size: int
    manifest: Manifest
    selection: Selection
    seconds: float
    manifest_file: str | None = None
    sbom: str | None = None
    signature: str | None = None
    notes: str | None = None
    published: tuple[str, ...] = ()
    latest: tuple[str, ...] = ()


def build_bundle(recipe: Recipe, output: Path | None, reporter: Reporter) -> Made:
    """Build a bundle and its ``.sha256``; a bundle of the same name is replaced.

    After an error, what was at the output before is unchanged.

    Args:
        recipe: The settings.
        output: A file, or a folder that gets the dated name; None for ``dist/``.
        reporter: Receives the progress.

    Raises:
        EnvpackError: Building, packing or writing failed.
    """
    started = time.monotonic()
    folder, name = _place(output)
    with packed(recipe, LocalFolder(folder), _suffix_of(name) if name else SUFFIXES[recipe.format], reporter) as (
        finished,
        manifest,
        selection,
    ):
        sha256, size = digest_of(finished, reporter), finished.stat().st_size
        bundle = folder / (name or str(bundle_name(recipe, manifest)))
        publish(finished, bundle, sha256)
    seconds = round(time.monotonic() - started, 3)
    return Made(str(bundle), str(checksum_path(bundle)), sha256, size, manifest, selection, seconds)


@contextmanager
def packed(
    recipe: Recipe, folder: LocalFolder, suffix: str, reporter: Reporter
) -> Iterator[tuple[Path, Manifest, Selection]]:
    """Yield the finished bundle in a staging folder of the folder."""
    from envpack.build.backends import choose_backend
    from envpack.build.build import build_prefix
    from envpack.build.location import choose_prefix
    from envpack.bundle.cache.cache_files import cache_folder
    from envpack.bundle.codecs import encoder_for
    from envpack.bundle.pack import PackSettings, pack_prefix
    from envpack.lock.inputs import load_input
    from envpack.lock.model import Lock
    from envpack.lock.solve import PackageSources
    from envpack.prefix.scan.prune import Selection
    from envpack.release.locked import origin_of
    from envpack.release.own_files import own_files
    from envpack.release.trial import run_tests_of

    # report wrong arguments before the work, not after
    epoch = source_date_epoch(recipe.environ)
    encoder_for(suffix, recipe.level)
    source = load_input(recipe.source, recipe.environment, reporter)
    if isinstance(source, Lock) and recipe.channels:
        raise UsageError(
            f"{recipe.source} is a lock file, which states the channel of every package",
            hint="Run the command without --channel, or lock the spec again with it.",
        )
    backend = choose_backend(recipe.backend)
    own = own_files(source.spec if isinstance(source, Lock) else source)
    root = recipe.work or work_root(recipe.environ)
    with folder.staging() as staging, work_folder(root) as work:
        built = build_prefix(
            source,
            choose_prefix(work),
            backend=backend,
            sources=PackageSources(recipe.channels, recipe.index_url),
            reporter=reporter,
        )
        spec = built.lock.spec
        selection = Selection(exclude=spec.exclude, include=spec.include, prune=spec.prune)
        settings = PackSettings(
            name=spec.name,
            version=spec.version,
            subdir=built.platform,
            requires=spec.requires.as_dict(),
            test=spec.test,
            commands=spec.commands,
            services=spec.services,
            mounts=spec.mounts,
            selection=selection,
            strict=recipe.strict,
            level=recipe.level,
            jobs=recipe.jobs,
            created=epoch,
            cache=cache_folder(recipe.environ) if recipe.cache else None,
            origins={package.name: origin_of(package) for package in built.lock.platform(built.platform).pypi},
            own=own,
        )
        finished = staging / f"bundle{suffix}"
        manifest = pack_prefix(built.prefix, finished, settings=settings, reporter=reporter)
        if recipe.test:
            run_tests_of(finished, work / "test", reporter, recipe.jobs)
        yield finished, manifest, selection


def _place(output: Path | None) -> tuple[Path, str]:
    """Return the folder and the file name of the output; "" when the name is made from the spec."""
    if output is None:
        return DEFAULT_FOLDER, ""
    if output.is_dir() or "." not in output.name:
        return output, ""
    _suffix_of(output.name)
    return output.parent, output.name


def _suffix_of(name: str) -> str:
    for suffix in SUFFIXES.values():
        if name.endswith(suffix):
            return suffix
    raise UsageError(
        f"{name!r}: the suffix is not one of a known format",
        hint=f"Use a name like *{' or *'.join(SUFFIXES.values())}, or a directory.",
    )


def bundle_name(recipe: Recipe, manifest: Manifest, ordinal: int = 0) -> BundleName:
    """Return the dated name of a bundle; ``ordinal``: the number of earlier releases of the day."""
    day = build_date(recipe.environ)
    return BundleName(manifest.name, manifest.version, day, manifest.subdir, ordinal, SUFFIXES[recipe.format])


def digest_of(path: Path, reporter: Reporter) -> str:
    """Return the sha256 of a finished bundle, in hex, and report the progress."""
    size = path.stat().st_size
    with reporter.step("Writing the checksum", total=size) as step:
        sha256 = sha256_of(path, step)
        step.detail = f"sha256 {sha256[:16]}..."
    return sha256
