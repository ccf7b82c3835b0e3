"""``envpack release``: a spec becomes the files one publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envpack.cli.commands.build import describe
from envpack.cli.commands.sign import secret_key
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
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign with this secret key.", show_default=False)
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Build the files to publish: bundle, sha256, manifest.

    As 'envpack build', but nothing is ever overwritten: a second release of one day gets '.1' behind the date.
    Prints the paths of the three files, and of the signature where config.toml names a 'sign_key', or --key does.
    The bundle appears last: where it is, the rest is too.
    SOURCE_DATE_EPOCH sets the date.

    \b
    Example:
      envpack release environment.lock
    """
    from envpack.config import load_config
    from envpack.publish.local import LocalFolder
    from envpack.release.make import Recipe, release_bundle

    console: Console = context.obj
    secret = secret_key(console, key) if key is not None or load_config(console.environ).sign_key else None
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
    made = release_bundle(recipe, LocalFolder(output), console.reporter, secret)
    tell(console, made.manifest.changes, made.selection)

    def show(console: Console) -> None:
        for path in filter(None, (made.bundle, made.checksum, made.manifest_file, made.signature)):
            console.out.write(escape(path))

    return Result("release", {**describe(made), "manifest": made.manifest_file, "signature": made.signature}, show)
