"""``envpack pack``: an environment that exists becomes a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from envpack.cli.console import Console, Result
from envpack.cli.environments import active, find_environment, name_of
from envpack.cli.options import (
    Editable,
    Exclude,
    Format,
    Include,
    Jobs,
    Json,
    Level,
    NoCache,
    OutsideLinks,
    Prune,
    Quiet,
    Strict,
    Verbose,
)
from envpack.cli.output import facts_of, tell
from envpack.cli.text import escape
from envpack.runtime.errors import DestinationError, UsageError


def pack(
    context: typer.Context,
    prefix: Annotated[
        Path | None,
        typer.Option("--prefix", "-p", metavar="DIR", help="The environment's folder.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", metavar="NAME", help="Its name, as conda knows it.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Its suffix names the format, conda-pack's too. [default: NAME.tar.gz here]",
            show_default=False,
        ),
    ] = None,
    bundle_name: Annotated[
        str | None,
        typer.Option("--bundle-name", metavar="NAME", help="[default: the environment's]", show_default=False),
    ] = None,
    bundle_version: Annotated[
        str | None,
        typer.Option("--bundle-version", metavar="VERSION", help="[default: 0.0.0]", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace FILE when it is there.", show_default=False)
    ] = False,
    exclude: Exclude = None,
    include: Include = None,
    prune: Prune = None,
    editable: Editable = "error",
    outside_links: OutsideLinks = "error",
    strict: Strict = False,
    format_: Format = None,
    level: Level = None,
    jobs: Jobs = None,
    no_cache: NoCache = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Pack an environment that exists: conda's, pixi's, active.

    Without -p and -n it is the active one. Files that pip replaced or that were edited are packed as they stand.
    Bundles are .tar.gz and .tar.zst. What else conda-pack can write (.zip, .tar.bz2, .tar.xz, .tar, .squashfs,
    .parcel, and folders: .no-archive) is written through its library, to be finished by the conda-unpack in it.

    \b
    Examples:
      envpack pack -n demo
      envpack pack -p /opt/conda/envs/demo -o demo.tar.zst
      envpack pack --prune tests --exclude '*.ipynb' --include 'demo.ipynb'
      envpack pack -n demo -o demo.zip
    """
    from envpack.bundle.cache.cache_files import cache_folder
    from envpack.bundle.pack import PackSettings, pack_prefix
    from envpack.interop.write import format_for, write_archive
    from envpack.prefix.scan.prune import Selection
    from envpack.release.editable import editable_policy
    from envpack.release.names import SUFFIXES, format_of

    console: Console = context.obj
    if prefix is not None and name is not None:
        raise UsageError("-p and -n both name an environment", hint="Give one of them.")
    prefix = prefix or (find_environment(name, console.environ) if name else active(console.environ))
    suffix = SUFFIXES[format_of(format_, output)]
    output = output or Path(f"{bundle_name or name_of(prefix)}{suffix}")
    if not force and (output.exists() or output.is_symlink()):
        raise DestinationError(f"{output} exists; it was left as it is", hint="--force replaces it.")
    selection = Selection(exclude=exclude or (), include=include or (), prune=prune or ())
    settings = PackSettings(
        name=bundle_name or name_of(prefix),
        version=bundle_version or "0.0.0",
        selection=selection,
        outside=outside_links,
        strict=strict,
        level=level,
        jobs=jobs,
        cache=None if no_cache else cache_folder(),
    )
    write = pack_prefix if format_for(output) is None else write_archive
    with editable_policy(editable, output, console.reporter) as policy:
        settings = replace(settings, editable=policy)
        manifest = write(prefix, output, settings=settings, reporter=console.reporter)
    tell(console, manifest.changes, selection)
    data = {
        "bundle": str(output),
        **facts_of(output, console),
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "size": manifest.size,
        "files": manifest.files,
        "packages": len(manifest.packages),
        "longest_prefix": manifest.longest_prefix,
        "excluded": selection.dropped.total(),
        "changes": manifest.changes.counts,
    }

    def show(console: Console) -> None:
        console.out.write(escape(str(output)))
        if output.is_file() and output.suffix != ".squashfs":
            console.next_steps([f"envpack inspect {output}", f"envpack deploy {output} DEST"])

    return Result("pack", data, show)
