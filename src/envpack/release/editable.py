"""The policy for editable installs of a packed environment: refused, left out, or built into wheels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envpack.runtime.deployment.parents import warn_of_parents
from envpack.runtime.fs.paths import folders_for
from envpack.runtime.fs.temporary import work_folder
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.prefix.owners.editable import Editable
    from envpack.prefix.owners.editable_policy import Policy


@contextmanager
def editable_policy(mode: Literal["error", "skip", "wheel"], output: Path, reporter: Reporter) -> Iterator[Policy]:
    """Yield the value for `PackSettings.editable`, for the time an environment is packed to ``output``.

    Wheels are built in a folder beside ``output``, which is removed afterwards.

    Args:
        mode: "error", "skip" or "wheel".
        output: The bundle that is written.
        reporter: Receives the progress.

    Raises:
        DestinationError: The folder for wheels can't be made.
        BuildError: While packing: a wheel can't be built.
    """
    if mode != "wheel":
        yield mode
        return
    warn_of_parents(output.absolute(), reporter)
    with folders_for(output), work_folder(output) as folder:

        def install(found: Sequence[Editable], python: Path) -> Path:
            from envpack.build.wheels import install_as_wheels

            projects = {Path(item.project): item.name for item in found}
            return install_as_wheels(projects, python, folder, reporter=reporter)

        yield install
