"""The names that ``--allow``, and so the record of a deployment, may have beside the requirements on a host."""

from __future__ import annotations

from envpack.runtime.tree.head import ROOM

ROOT_HOME = "root_home"
"""Lets root deploy below its own home; it is never the default."""

PARENT_OWNER = "parent_owner"
"""Lets root work below a folder that other users can write to."""

OTHER_NAMES = (ROOT_HOME, PARENT_OWNER, ROOM)
