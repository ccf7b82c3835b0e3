"""The ids of the segments with own files."""

from __future__ import annotations

APP = "app:"
"""Begin of the id of an application's segment; the rest is the path of its directory in the environment."""

FILES = "files"
"""Id of the segment with the other own files."""


def application_path(id: str) -> str:
    """Return the path of the application in a segment; "" when it is another segment."""
    return id[len(APP) :] if id.startswith(APP) else ""


def is_own(id: str) -> bool:
    """Return whether a segment has own files."""
    return id == FILES or id.startswith(APP)
