"""From a spec or a lock to finished files: build in a work folder, pack, publish, leave nothing else behind."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.publish.local import checksum_path, manifest_path, publish, publish_new, sha256_of
from envpack.release.names import SUFFIXES, build_date, bundle_stem, source_date_epoch
from envpack.release.work import work_folder, work_root
from envpack.runtime.errors import DestinationError, UsageError
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.prefix.scan.prune import Selection
    from envpack.runtime.format.manifest import Manifest
    from envpack.signing.keys import SecretKey

DEFAULT_FOLDER = Path("dist")
"""Where bundles go when nothing else is asked for, from the working directory."""


@dataclass(frozen=True)
class Recipe:
    """How a bundle is made of a spec or lock; the defaults are the command line's.

    ``format``: a key of `SUFFIXES`; ``level``: the codec's; ``jobs``: threads; ``work``: where the prefix is built
    (default: see `work_root`); ``environ``: SOURCE_DATE_EPOCH and the cache folder are taken from it; ``strict``:
    see `PackSettings`; ``cache``: whether segments packed before are taken over, and kept.
    """

    source: Path
    environ: Mapping[str, str]
    channels: tuple[str, ...] = ()
    index_url: str | None = None
    backend: str = "rattler"
    format: str = "gz"
    level: int | None = None
    jobs: int | None = None
    work: Path | None = None
    strict: bool = False
    cache: bool = True


@dataclass(frozen=True)
class Made:
    """A bundle at its place. ``selection`` counted what was left out; ``manifest_file`` and ``signature`` only
    for a release; ``seconds``: all of it."""

    bundle: Path
    checksum: Path
    sha256: str
    file_size: int
    manifest: Manifest
    selection: Selection
    seconds: float
    manifest_file: Path | None = None
    signature: Path | None = None


def build_bundle(recipe: Recipe, output: Path | None, reporter: Reporter) -> Made:
    """Makes a bundle and its ``.sha256`` at ``output``: a file, or a folder that gets the dated name.

    Default: ``dist/``. A bundle of the same name is replaced. Raises what building, packing and writing raise;
    then what was there before is untouched.
    """
    started = time.monotonic()
    folder, name = _place(recipe, output)
    with _packed(recipe, folder, _suffix_of(name) if name else SUFFIXES[recipe.format], reporter) as (
        finished,
        manifest,
        selection,
    ):
        sha256, size = _digest(finished, reporter), finished.stat().st_size
        bundle = folder / (name or _stem(recipe, manifest) + SUFFIXES[recipe.format])
        publish(finished, bundle, sha256)
    return Made(
        bundle, checksum_path(bundle), sha256, size, manifest, selection, round(time.monotonic() - started, 3)
    )


def release_bundle(recipe: Recipe, folder: Path, reporter: Reporter, key: SecretKey | None = None) -> Made:
    """Makes a bundle, its ``.sha256`` and its ``.manifest.json`` in ``folder`` under a name that is new there.

    With a ``key``, the ``.minisig`` too. The second one of a day gets ``.1`` behind the date, and so on: nothing
    is ever overwritten. Where the bundle is, the rest is; after an error nothing is there.
    """
    from envpack.runtime.format.manifest_json import manifest_to_json
    from envpack.signing.bundle import signature_path

    started = time.monotonic()
    suffix = SUFFIXES[recipe.format]
    with _packed(recipe, folder, suffix, reporter) as (finished, manifest, selection):
        sha256, size = _digest(finished, reporter), finished.stat().st_size
        stems = (_stem(recipe, manifest, ordinal) for ordinal in itertools.count())
        document = manifest_to_json(manifest)
        bundle = publish_new(
            finished, folder, stems, suffix, sha256=sha256, manifest=document, sign=_signer(key, document)
        )
    return Made(
        bundle,
        checksum_path(bundle),
        sha256,
        size,
        manifest,
        selection,
        round(time.monotonic() - started, 3),
        manifest_path(folder, bundle.name.removesuffix(suffix)),
        signature_path(bundle) if key is not None else None,
    )


def _signer(key: SecretKey | None, manifest: bytes) -> Callable[[Path], bytes] | None:
    if key is None:
        return None
    from envpack.signing.bundle import sign_manifest

    return lambda bundle: sign_manifest(manifest, bundle, key, "").text.encode()


@contextmanager
def _packed(
    recipe: Recipe, folder: Path, suffix: str, reporter: Reporter
) -> Iterator[tuple[Path, Manifest, Selection]]:
    """The finished bundle in a folder of its own inside ``folder``, to be moved from there."""
    from envpack.build import build_prefix, choose_backend, choose_prefix
    from envpack.bundle.cache.cache_files import cache_folder
    from envpack.bundle.codecs import encoder_for
    from envpack.bundle.pack import PackSettings, pack_prefix
    from envpack.lock import Lock, load_input
    from envpack.prefix.scan.prune import Selection

    # what is wrong with the arguments is told before the work, not after
    epoch = source_date_epoch(recipe.environ)
    encoder_for(suffix, recipe.level)
    source = load_input(recipe.source)
    if isinstance(source, Lock) and recipe.channels:
        raise UsageError(
            f"{recipe.source} is a lock: it names the channel of every package",
            hint="Leave --channel out, or lock the spec again with it.",
        )
    backend = choose_backend(recipe.backend)
    root = recipe.work or work_root(recipe.environ)
    with _staging(folder) as staging, work_folder(root) as work:
        built = build_prefix(
            source,
            choose_prefix(work),
            backend=backend,
            channels=recipe.channels,
            index_url=recipe.index_url,
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
            selection=selection,
            strict=recipe.strict,
            level=recipe.level,
            jobs=recipe.jobs,
            created=epoch,
            cache=cache_folder(recipe.environ) if recipe.cache else None,
        )
        finished = staging / f"bundle{suffix}"
        yield finished, pack_prefix(built.prefix, finished, settings=settings, reporter=reporter), selection


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder``, on its filesystem, for files that are not finished."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(dir=folder, prefix=".envpack-")
    except OSError as problem:
        raise DestinationError(
            f"can't write to {folder}: {problem.strerror}", hint="Name another place with --output."
        ) from None
    try:
        with staging as name:
            yield Path(name)
    except BaseException:
        if made:
            with suppress(OSError):  # not empty: somebody else put something there meanwhile
                folder.rmdir()
        raise


def _place(recipe: Recipe, output: Path | None) -> tuple[Path, str]:
    """The folder and the file's name; "" when the name is to be made from the spec."""
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
        f"{name!r}: what format this is to be can't be told from its name",
        hint=f"Name it *{' or *'.join(SUFFIXES.values())}, or name a folder.",
    )


def _stem(recipe: Recipe, manifest: Manifest, ordinal: int = 0) -> str:
    day = build_date(recipe.environ)
    return bundle_stem(manifest.name, manifest.version, day, manifest.subdir, ordinal)


def _digest(path: Path, reporter: Reporter) -> str:
    size = path.stat().st_size
    with reporter.step("Writing the checksum", total=size) as step:
        sha256 = sha256_of(path, step)
        step.detail = f"sha256 {sha256[:16]}..."
    return sha256
