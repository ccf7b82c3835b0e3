"""Packages that conda installed as symbolic links into its package cache (``allow_softlinks``).

conda does so where the cache is on another filesystem, and records each file as a link
(conda/core/path_actions.py, ``LinkPathAction``). The files themselves are packed, because a deployment has no
package cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

_SOFTLINK = 2
"""conda/models/enums.py, ``LinkType``."""


def linked_folders(prefix: Path) -> tuple[str, ...]:
    """Return the folders in the package cache to which files of an environment are linked.

    A record may state any folder, as /etc: only one that is an unpacked package of its name counts.
    """
    found = set()
    with suppress(OSError):
        for place in (prefix / "conda-meta").glob("*.json"):
            with suppress(OSError, ValueError):
                document = json_value(read_file(place))
                source = document["link"].get("source") if _is_linked(document) else None
                if isinstance(source, str) and _is_package(source, document):
                    found.update({source.rstrip("/"), os.path.realpath(source)})
    return tuple(sorted(found))


def _is_package(folder: str, document: Mapping[str, Any]) -> bool:
    dist = "-".join(str(document.get(key)) for key in ("name", "version", "build"))
    place = folder.rstrip("/")
    return place.startswith("/") and place.endswith(f"/{dist}") and os.path.isfile(f"{place}/info/index.json")


def is_within(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether an absolute path is in one of the folders."""
    return path.startswith(tuple(f"{folder}/" for folder in folders))


def record_of_files(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record as it is without such links: of files with the digests of their package."""
    paths_data = document.get("paths_data")
    paths = paths_data.get("paths") if isinstance(paths_data, dict) else None
    if not _is_linked(document) or not isinstance(paths_data, dict) or not isinstance(paths, list):
        return document
    return {**document, "paths_data": {**paths_data, "paths": [_as_file(item) for item in paths]}}


def _is_linked(document: Any) -> bool:
    link = document.get("link") if isinstance(document, dict) else None
    return isinstance(link, dict) and link.get("type") == _SOFTLINK


def _as_file(item: Any) -> Any:
    if isinstance(item, dict) and item.get("path_type") == "softlink" and item.get("sha256"):
        return {**item, "path_type": "hardlink"}
    return item
