"""``envpack release``: a spec becomes the files one publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envpack.cli.build import describe
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
from envpack.cli.summary import tell
from envpack.cli.text import escape


def release(
    context: typer.Context,
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC|LOCK", help="An environment.yml or a lock.", show_default=False)
    ],
    channels: Channels = None,
    index_url: IndexUrl = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the files.")] = Path(
        "dist"
    ),
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
    """Build the files to publish: bundle, sha256, manifest.

    As 'envpack build', but nothing is ever overwritten: a second release of one day gets '.1' behind the date.
    Prints the paths of the three files. SOURCE_DATE_EPOCH sets the date.

    \b
    Example:
      envpack release environment.lock
    """
    from envpack.release.make import Recipe, release_bundle

    console: Console = context.obj
    recipe = Recipe(
        source=spec,
        environ=console.environ,
        channels=tuple(channels or ()),
        index_url=index_url,
        backend=backend,
        format=format_ or "gz",
        level=level,
        jobs=jobs,
        cache=not no_cache,
        work=work,
        strict=strict,
    )
    made = release_bundle(recipe, output, console.reporter)
    tell(console, made.manifest.changes, made.selection)

    def show(console: Console) -> None:
        for path in (made.bundle, made.checksum, made.manifest_file):
            console.out.write(escape(str(path)))

    return Result("release", {**describe(made), "manifest": str(made.manifest_file)}, show)
