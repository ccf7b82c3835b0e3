"""``envpack convert``: archives that conda-pack made become bundles, and bundles become archives like them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envpack.cli.console import Console, Result
from envpack.cli.options import Jobs, Json, Level, Quiet, Verbose
from envpack.cli.output import facts_of, tell, tell_origin
from envpack.cli.text import escape
from envpack.runtime.errors import DestinationError


def convert(
    context: typer.Context,
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="An archive that conda-pack made, or a bundle.", show_default=False),
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Its suffix names the format.", show_default=False)],
    bundle_name: Annotated[
        str | None, typer.Option("--bundle-name", metavar="NAME", help="[default: OLD's]", show_default=False)
    ] = None,
    bundle_version: Annotated[
        str | None,
        typer.Option("--bundle-version", metavar="VERSION", help="[default: OLD's, or 0.0.0]", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace NEW when it is there.", show_default=False)
    ] = False,
    level: Level = None,
    jobs: Jobs = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> Result:
    """Make a bundle of conda-pack's archive, or the reverse.

    A bundle (NEW is .tar.gz or .tar.zst) gets what packages published as they published it, where their own
    digests prove it. Into conda-pack's formats, such as .zip, bundles and archives alike are converted.

    \b
    Examples:
      envpack convert made-by-conda-pack.tar.gz demo.tar.zst --bundle-version 1.2
      envpack convert demo.tar.gz demo.zip
    """
    from envpack.bundle.pack import PackSettings
    from envpack.interop.convert import convert_file

    console: Console = context.obj
    if not force and (new.exists() or new.is_symlink()):
        raise DestinationError(f"{new} exists; it was left as it is", hint="--force replaces it.")
    settings = PackSettings(name=bundle_name or "", version=bundle_version or "", level=level, jobs=jobs)
    done = convert_file(old, new, settings=settings, reporter=console.reporter)
    manifest = done.manifest
    tell(console, manifest.changes)
    data = {
        "bundle": str(new),
        **facts_of(new, console),
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "size": manifest.size,
        "files": manifest.files,
        "packages": len(manifest.packages),
        "longest_prefix": manifest.longest_prefix,
        "changes": manifest.changes.counts,
        "made_by": done.made_by,
        "lacks": list(done.missing_guarantees),
        "repairs": [repair.as_dict() for repair in done.repairs],
    }

    def show(console: Console) -> None:
        console.out.write(escape(str(new)))
        if not console.quiet:
            tell_origin(console.err, done.made_by, done.missing_guarantees, done.repairs, console.verbose)

    return Result("convert", data, show)
