"""Groups of options: each is one parameter of the commands that share it (see `envpack.cli.typer_command`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.options import (
    Backend,
    Channels,
    Exclude,
    Format,
    Include,
    IndexUrl,
    Jobs,
    Json,
    Level,
    LockEnvironment,
    NoCache,
    Prune,
    Quiet,
    Strict,
    Verbose,
    WorkDir,
    option,
)
from envpack.runtime.errors import DestinationError

if TYPE_CHECKING:
    from envpack.bundle.pack import PackSettings
    from envpack.lock.solve import PackageSources
    from envpack.prefix.scan.prune import Selection
    from envpack.release.make import Recipe


@dataclass(frozen=True)
class CommonOptions:
    """Options of every command; their callbacks set the console's attributes."""

    json: Json = False
    verbose: Verbose = False
    quiet: Quiet = False


@dataclass(frozen=True)
class SolveOptions:
    """Options of the commands that solve a spec: the sources of packages."""

    channels: Channels = None
    index_url: IndexUrl = None

    def sources(self) -> PackageSources:
        """Return the sources of packages that replace the spec's."""
        from envpack.lock.solve import PackageSources

        return PackageSources(tuple(self.channels or ()), self.index_url)


@dataclass(frozen=True)
class PackOptions:
    """Options of build, pack and release: the form of a bundle."""

    strict: Strict = False
    format: Format = None
    level: Level = None
    jobs: Jobs = None
    no_cache: NoCache = False

    def settings(self, name: str, version: str) -> PackSettings:
        """Return the settings of a bundle with this name and version."""
        from envpack.bundle.cache.cache_files import cache_folder
        from envpack.bundle.pack import PackSettings
        from envpack.release.names import source_date_epoch

        cache = None if self.no_cache else cache_folder()
        return PackSettings(
            name=name,
            version=version,
            strict=self.strict,
            level=self.level,
            jobs=self.jobs,
            created=source_date_epoch(os.environ),
            cache=cache,
        )


@dataclass(frozen=True)
class SelectOptions:
    """Options of pack: the files of an environment that are packed."""

    exclude: Exclude = None
    include: Include = None
    prune: Prune = None

    def selection(self) -> Selection:
        """Return the rules for files to leave out."""
        from envpack.prefix.scan.prune import Selection

        return Selection(exclude=self.exclude or (), include=self.include or (), prune=self.prune or ())


@dataclass(frozen=True)
class BuildOptions:
    """Options of build and release: from a spec or a lock to a bundle."""

    solving: SolveOptions
    packing: PackOptions
    environment: LockEnvironment = None
    no_test: Annotated[bool, option("--no-test", help="Don't run the bundle's tests.")] = False
    backend: Backend = "rattler"
    work: WorkDir = None

    def recipe(self, source: Path, environ: Mapping[str, str], output: Path | None = None) -> Recipe:
        """Return the settings for a build.

        Args:
            source: The spec or lock file.
            environ: The environment variables of the process.
            output: The path of the bundle, if it is given.

        Raises:
            UsageError: ``output`` has the suffix of another format.
        """
        from envpack.release.make import Recipe
        from envpack.release.names import format_of

        return Recipe(
            source=source,
            environ=environ,
            environment=self.environment,
            channels=tuple(self.solving.channels or ()),
            index_url=self.solving.index_url,
            backend=self.backend,
            format=format_of(self.packing.format, output),
            level=self.packing.level,
            jobs=self.packing.jobs,
            cache=not self.packing.no_cache,
            work=self.work,
            strict=self.packing.strict,
            test=not self.no_test,
        )


@dataclass(frozen=True)
class OutputOptions:
    """Options of pack and convert: the name in the output, and whether it replaces a file."""

    bundle_name: Annotated[
        str | None,
        option("--bundle-name", metavar="NAME", help="Name of the environment. [default: from the input]"),
    ] = None
    bundle_version: Annotated[
        str | None,
        option("--bundle-version", metavar="VERSION", help="Its version. [default: from the input, or 0.0.0]"),
    ] = None
    force: Annotated[bool, option("--force", "-f", help="Replace an existing output.")] = False

    def check(self, output: Path) -> None:
        """Raise DestinationError when the output exists and is not to be replaced."""
        if not self.force and (output.exists() or output.is_symlink()):
            raise DestinationError(f"{output} already exists", hint="Replace it with --force.")
