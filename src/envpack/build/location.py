"""Where to build: a prefix long enough that what is compiled there can be moved anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.runtime.errors import BuildError

PREFIX_LENGTH = 220
"""Bytes of a build prefix. What pip compiles holds it in C strings, which can only get shorter when an environment
moves: with 220, any destination of up to 200 bytes leaves room for the '/lib' and the like that follow it. It is
below the 255 bytes conda pads its placeholders to (``conda_build.config.Config.prefix_length``), so that
every conda package can be linked here."""

_PADDING = "placehold_"


def choose_prefix(work: Path) -> Path:
    """A path under ``work`` of exactly PREFIX_LENGTH bytes, which does not exist yet: ``work/p/placehold_...``.

    BuildError when ``work`` is itself so long that nothing is left to pad.
    """
    parent = os.fsencode(work.absolute() / "p") + b"/"
    room = PREFIX_LENGTH - len(parent)
    if room < len(_PADDING):
        raise BuildError(
            f"the work folder {work.absolute()} is too long: {len(parent) - 3} bytes, at most "
            f"{PREFIX_LENGTH - len(_PADDING) - 3}",
            hint="Build in a folder with a shorter path.",
        )
    return Path(os.fsdecode(parent) + (_PADDING * (room // len(_PADDING) + 1))[:room])
