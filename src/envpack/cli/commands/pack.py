"""``envpack pack``: an environment that exists becomes a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from envpack.cli.console import Console, Result
from envpack.cli.environments import active_environment, find_environment, name_of
from envpack.cli.option_groups import OutputOptions, PackOptions, SelectOptions
from envpack.cli.options import DestPrefix, Editable, OutsideLinks, option, require_file
from envpack.cli.output import describe_bundle, digest_and_size, report_changes
from envpack.cli.text import escape
from envpack.runtime.errors import UsageError


def pack(
    console: Console,
    *,
    prefix: Annotated[
        Path | None, option("--prefix", "-p", metavar="DIR", help="Path of the environment.")
    ] = None,
    name: Annotated[
        str | None, option("--name", "-n", metavar="NAME", help="Name of the environment, as in conda.")
    ] = None,
    app: Annotated[
        list[str] | None,
        option(
            "--app",
            metavar="DIR[:PATH]",
            help="Pack the application in DIR too, at PATH in the environment. Repeatable. [default: app]",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        option("--base", metavar="BUNDLE", help="With --app: take all else from this bundle, not an environment."),
    ] = None,
    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output; its suffix selects the format. [default: NAME.tar.gz]",
        ),
    ] = None,
    writing: OutputOptions,
    selecting: SelectOptions,
    editable: Editable = "error",
    outside_links: OutsideLinks = "error",
    dest_prefix: DestPrefix = None,
    packing: PackOptions,
) -> Result:
    """Pack an existing environment.

    Without -p and -n, the active environment is packed. Files that were edited, or replaced by pip, are packed as
    they are. Bundles are .tar.gz and .tar.zst files. The other formats of conda-pack (.zip, .tar.bz2, .tar.xz,
    .tar, .squashfs, .parcel, and .no-archive for a directory) are written by its library: after unpacking one, run
    its conda-unpack.

    --app adds the code of an application, as a part of its own: an upgrade after a change of the code reads only
    that. With --base neither the environment nor its packages are needed: the rest of the bundle is copied.

    \b
    Examples:
      envpack pack -n demo
      envpack pack -p /opt/conda/envs/demo -o demo.tar.zst
      envpack pack --prune tests --exclude '*.ipynb' --include 'demo.ipynb'
      envpack pack -n demo -o demo.zip
      envpack pack -n demo --app src
      envpack pack --base demo.tar.gz --app src --bundle-version 1.1 -o new.tar.gz
    """
    from envpack.bundle.on_base import pack_on_base
    from envpack.bundle.pack import pack_prefix
    from envpack.interop.output_formats import format_for
    from envpack.interop.write import write_archive
    from envpack.prefix.own.read import parse_application
    from envpack.publish.names import SUFFIXES
    from envpack.release.editable import editable_policy
    from envpack.release.names import format_of

    require_file(output)
    selection, reporter = selecting.selection(), console.reporter
    chosen = replace(
        packing.settings(writing.bundle_name or "", writing.bundle_version or ""),
        selection=selection,
        outside=outside_links,
        own=tuple(map(parse_application, app or ())),
    )
    if base is not None:
        if output is None or not app:
            raise UsageError("--base needs --app and -o: the application, and the new bundle")
        if not base.is_file():
            raise UsageError(f"--base {base} is not a file", hint="Download a bundle that is on a server first.")
        if prefix is not None or name is not None or selecting.prune or dest_prefix:
            raise UsageError(
                "--base takes everything but the application from a bundle, without -p, -n or --prune"
            )
        writing.check(output)
        manifest = pack_on_base(base, output, settings=chosen, reporter=reporter)
    else:
        prefix, fixed = _prefix(console, prefix, name), dest_prefix or ""
        settings = replace(chosen, name=chosen.name or name_of(prefix), version=chosen.version or "0.0.0")
        output = output or Path(f"{settings.name}{SUFFIXES[format_of(packing.format, output)]}")
        writing.check(output)
        with editable_policy(editable, output, reporter) as policy:
            settings = replace(settings, editable=policy)
            if not fixed and format_for(output) is None:
                manifest = pack_prefix(prefix, output, settings=settings, reporter=reporter)
            else:
                manifest = write_archive(prefix, output, settings=settings, reporter=reporter, dest_prefix=fixed)
    report_changes(console, manifest.changes, selection)
    file = digest_and_size(output) if console.json else {}
    data = {**describe_bundle(output, manifest, file), "excluded": selection.dropped.total()}
    return Result("pack", data, lambda console: _show(console, output))


def _prefix(console: Console, prefix: Path | None, name: str | None) -> Path:
    """Return the folder of the environment: as given, or the one of this name, or the active one."""
    if prefix is not None and name is not None:
        raise UsageError("-p and -n both select an environment", hint="Use only one of them.")
    return prefix or (find_environment(name, console.environ) if name else active_environment(console.environ))


def _show(console: Console, output: Path) -> None:
    console.out.write(escape(str(output)))
    if output.is_file() and output.suffix != ".squashfs":
        console.next_steps([f"envpack inspect {output}", f"envpack deploy {output} DEST"])
