"""``envpack repair``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from envpack.cli.approval import approval
from envpack.cli.console import Console, Result
from envpack.cli.options import AnyParent, Deployed, Jobs, Mirror, argument
from envpack.cli.output import list_extra_files, list_paths
from envpack.cli.text import escape, human_time, plural
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.repair import Repaired


def repair(
    console: Console,
    destination: Deployed,
    bundle: Annotated[
        str,
        argument(
            metavar="BUNDLE",
            help="The bundle that was deployed: a path, a URL, or '-' for stdin.",
        ),
    ],
    jobs: Jobs = None,
    allow: AnyParent = None,
    mirror: Mirror = None,
) -> Result:
    """Restore the changed and missing files of a deployment.

    Only the parts of the bundle that contain such files are read. All other files stay unchanged, also those that
    are in no bundle.

    \b
    Example:
      envpack repair /opt/envs/demo dist/demo-1.0-20251219-linux-64.tar.gz
    """
    from envpack.bundle.codecs import FAST
    from envpack.runtime.commands.repair import repair as run
    from envpack.runtime.transport.open import located

    done = run(
        destination,
        located(bundle),
        reporter=console.reporter,
        jobs=jobs,
        decoders=FAST,
        approve=approval(console, bundle),
        any_parent=allow is not None,
        mirrors=mirror or (),
    )
    return Result("repair", done.as_dict(), lambda console: _show_repaired(console, done))


def _show_repaired(console: Console, done: Repaired) -> None:
    out = console.out
    if not done.mended:
        out.write(
            f"nothing to repair: {escape(done.name)} {escape(done.version)} is unchanged: {escape(done.path)}"
        )
    else:
        out.write(f"{plural(len(done.mended), 'path')} restored in {escape(done.path)}")
        out.write(f"  {human_size(done.read)} read from the bundle, {human_time(done.seconds)}")
        list_paths(console, done.mended)
    list_extra_files(console, done.extra, "in no bundle, left unchanged")
