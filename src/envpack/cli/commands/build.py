"""``envpack build``: a spec or a lock becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envpack.cli.console import Console, Result
from envpack.cli.options import (
    Backend,
    Channels,
    Format,
    IndexUrl,
    Jobs,
    Json,
    Level,
    NoCache,
    Quiet,
    Strict,
    Verbose,
    WorkDir,
)
from envpack.cli.output import tell
from envpack.cli.text import escape

if TYPE_CHECKING:
    from envpack.release.make import Made


def build(
    context: typer.Context,
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC|LOCK", help="An environment.yml or a lock.", show_default=False)
    ],
    channels: Channels = None,
    index_url: IndexUrl = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="[default: dist/NAME-VERSION-DATE-SUBDIR.tar.gz]",
            show_default=False,
        ),
    ] = None,
    strict: Strict = False,
    format_: Format = None,
    level: Level = None,
    jobs: Jobs = None,
    no_cache: NoCache = False,
    backend: Backend = "rattler",
    work: WorkDir = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Build an environment from a spec or lock, and pack it.

    Solves, downloads, links and packs, and prints the path of the bundle. Its sha256 goes beside it. A bundle of
    the same name is replaced; SOURCE_DATE_EPOCH sets the date.

    \b
    Examples:
      envpack build environment.yml
      envpack build environment.yml -c ./channel -o demo.tar.zst
      bundle=$(envpack build -q environment.lock)
    """
    from envpack.release.make import Recipe, build_bundle
    from envpack.release.names import format_of

    console: Console = context.obj
    recipe = Recipe(
        source=spec,
        environ=console.environ,
        channels=tuple(channels or ()),
        index_url=index_url,
        backend=backend,
        format=format_of(format_, output),
        level=level,
        jobs=jobs,
        cache=not no_cache,
        work=work,
        strict=strict,
    )
    made = build_bundle(recipe, output, console.reporter)
    tell(console, made.manifest.changes, made.selection)
    return Result("build", describe(made), lambda console: _show(console, made))


def describe(made: Made) -> dict[str, Any]:
    """The ``result`` of ``envpack.build/1``."""
    manifest = made.manifest
    return {
        "bundle": made.bundle,
        "checksum": made.checksum,
        "sha256": made.sha256,
        "file_size": made.file_size,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "size": manifest.size,
        "files": manifest.files,
        "packages": len(manifest.packages),
        "longest_prefix": manifest.longest_prefix,
        "changes": manifest.changes.counts,
        "tests": list(manifest.test),
        "seconds": made.seconds,
    }


def _show(console: Console, made: Made) -> None:
    console.out.write(escape(made.bundle))
    console.next_steps([f"envpack inspect {made.bundle}", f"envpack deploy {made.bundle} DEST"])
