"""``envpack convert``: archives that conda-pack made become bundles, and bundles become archives like them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from envpack.cli.console import Console, Result
from envpack.cli.option_groups import OutputOptions
from envpack.cli.options import DestPrefix, Jobs, Level, argument, require_file
from envpack.cli.output import describe_bundle, digest_and_size, report_changes, show_origin
from envpack.cli.text import escape


def convert(
    console: Console,
    *,
    old: Annotated[Path, argument(metavar="OLD", help="An archive made by conda-pack, or a bundle.")],
    new: Annotated[Path, argument(metavar="NEW", help="Output; its suffix selects the format.")],
    writing: OutputOptions,
    dest_prefix: DestPrefix = None,
    level: Level = None,
    jobs: Jobs = None,
) -> Result:
    """Convert an archive of conda-pack to a bundle, or the reverse.

    If NEW is a .tar.gz or .tar.zst file, it becomes a bundle: files are restored to their published content where
    the digests in their packages confirm it. If NEW has another suffix of conda-pack, such as .zip, OLD can be a
    bundle or an archive.

    \b
    Examples:
      envpack convert made-by-conda-pack.tar.gz demo.tar.zst --bundle-version 1.2
      envpack convert demo.tar.gz demo.zip
    """
    from envpack.bundle.pack import PackSettings
    from envpack.interop.convert import convert_file
    from envpack.release.names import source_date_epoch

    require_file(new)
    writing.check(new)
    name, version = writing.bundle_name or "", writing.bundle_version or ""
    created = source_date_epoch(console.environ)
    settings = PackSettings(name=name, version=version, level=level, jobs=jobs, created=created)
    done = convert_file(old, new, settings=settings, reporter=console.reporter, dest_prefix=dest_prefix or "")
    report_changes(console, done.manifest.changes)
    data = {
        **describe_bundle(new, done.manifest, digest_and_size(new) if console.json else {}),
        "made_by": done.made_by,
        "lacks": list(done.missing_guarantees),
        "repairs": [repair.as_dict() for repair in done.repairs],
    }

    def show(console: Console) -> None:
        console.out.write(escape(str(new)))
        if not console.quiet:
            show_origin(console.err, done.made_by, done.missing_guarantees, done.repairs, verbose=console.verbose)

    return Result("convert", data, show)
