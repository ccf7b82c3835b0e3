"""The choice of a build prefix, long enough that files compiled for it can be relocated anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.runtime.errors import BuildError

PREFIX_LENGTH = 220
"""Bytes of a build prefix. Files that pip compiles hold the prefix in C strings, which can only get shorter when
an environment is relocated: with 220, any destination of up to 200 bytes leaves room for a suffix such as
'/lib'. The length is below the 255 bytes to which conda pads its placeholders
(``conda_build.config.Config.prefix_length``), so that every conda package can be linked here.
"""

_PADDING = "placehold_"


def choose_prefix(work: Path) -> Path:
    """Return a path of exactly PREFIX_LENGTH bytes that does not exist yet: ``work/p/placehold_...``.

    Raises:
        BuildError: ``work`` is so long that no room for padding is left.
    """
    parent = os.fsencode(work.absolute() / "p") + b"/"
    room = PREFIX_LENGTH - len(parent)
    if room < len(_PADDING):
        raise BuildError(
            f"the path of the work directory {work.absolute()} is too long: {len(parent) - 3} bytes, at most "
            f"{PREFIX_LENGTH - len(_PADDING) - 3}",
            hint="Build in a directory with a shorter path.",
        )
    return Path(os.fsdecode(parent) + (_PADDING * (room // len(_PADDING) + 1))[:room])
