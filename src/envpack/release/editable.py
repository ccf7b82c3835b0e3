"""Editable installs of an environment that is packed: refused, left out, or built into wheels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envpack.runtime.fs.paths import beside, folders_for, work_folder
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.prefix.owners.editable import Editable
    from envpack.prefix.owners.editable_policy import Policy


@contextmanager
def editable_policy(
    wanted: Literal["error", "skip", "wheel"], output: Path, reporter: Reporter
) -> Iterator[Policy]:
    """What `PackSettings.editable` is to be, while an environment is packed to ``output``.

    Wheels are built in a folder beside it, which is gone afterwards; packing then raises BuildError too, when one
    can't be built. Raises DestinationError when there is no room for them.
    """
    if wanted != "wheel":
        yield wanted
        return
    with folders_for(output), work_folder(beside(output, "wheels")) as folder:

        def install(found: Sequence[Editable], python: Path) -> Path:
            from envpack.build.wheels import install_as_wheels

            projects = {Path(item.project): item.name for item in found}
            return install_as_wheels(projects, python, folder, reporter=reporter)

        yield install
