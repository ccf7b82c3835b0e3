"""Editable installs of an environment that is packed: refused, left out, or built into wheels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envpack.runtime.errors import DestinationError
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.prefix.editable import Editable
    from envpack.prefix.overlay import Policy


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
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=output.parent.absolute(), prefix=f".{output.name}.wheels-")
    except OSError as problem:
        raise DestinationError(
            f"can't write {output}: {problem.strerror}", hint="Choose another output, or free some space there."
        ) from None
    with beside as folder:

        def install(found: Sequence[Editable], python: Path) -> Path:
            from envpack.build.wheels import install_as_wheels

            projects = {Path(item.project): item.name for item in found}
            return install_as_wheels(projects, python, Path(folder), reporter=reporter)

        yield install
