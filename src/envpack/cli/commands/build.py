"""``envpack build``: a spec or a lock becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.option_groups import BuildOptions
from envpack.cli.options import SpecOrLock, option, require_file
from envpack.cli.output import describe_built, report_changes
from envpack.cli.text import escape

if TYPE_CHECKING:
    from envpack.release.make import Made


def build(
    console: Console,
    *,
    spec: SpecOrLock = Path(),
    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Bundle, or its directory. [default: dist/NAME-VERSION-DATE-SUBDIR.tar.gz]",
        ),
    ] = None,
    building: BuildOptions,
) -> Result:
    """Build an environment from a spec or lock, and pack it.

    Solves the spec, installs the packages, packs the environment, and prints the path of the bundle. The checksum
    is written next to it, to BUNDLE.sha256. An existing bundle of the same name is replaced. SOURCE_DATE_EPOCH
    sets the date.

    \b
    Examples:
      envpack build environment.yml
      envpack build environment.yml -c ./channel -o demo.tar.zst
      bundle=$(envpack build -q environment.lock)
    """
    from envpack.release.make import build_bundle

    require_file(output)
    recipe = building.recipe(spec, console.environ, output)
    made = build_bundle(recipe, output, console.reporter)
    report_changes(console, made.manifest.changes, made.selection)
    return Result("build", describe_built(made), lambda console: _show(console, made))


def _show(console: Console, made: Made) -> None:
    console.out.write(escape(made.bundle))
    console.next_steps([f"envpack inspect {made.bundle}", f"envpack deploy {made.bundle} DEST"])
