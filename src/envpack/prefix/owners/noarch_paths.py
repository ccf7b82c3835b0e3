"""The paths of noarch: python packages, which are installed elsewhere than the package has them.

conda records such a file under its path in the package (conda/core/path_actions.py, ``LinkPathAction``), and its
path in the environment only in ``files``; rattler and mamba record the path in the environment in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

_SITE_PACKAGES = "site-packages/"
_SCRIPTS = "python-scripts/"


def installed_record(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with the path of each file as it is in the environment, where conda recorded another."""
    paths_data, files = document.get("paths_data"), document.get("files")
    if not isinstance(paths_data, dict) or not isinstance(files, list):
        return dict(document)
    paths = paths_data.get("paths")
    if not isinstance(paths, list):
        return dict(document)
    items = [item for item in paths if isinstance(item, dict) and isinstance(item.get("_path"), str)]
    moved = installed_paths([item["_path"] for item in items], [file for file in files if isinstance(file, str)])
    if not moved or len(items) < len(paths):
        return dict(document)
    paths = [{**item, "_path": moved.get(item["_path"], item["_path"])} for item in items]
    return {**document, "paths_data": {**paths_data, "paths": paths}}


def installed_paths(recorded: Iterable[str], files: Collection[str]) -> Mapping[str, str]:
    """Return the path in the environment for each recorded path that is elsewhere in the package.

    The rule is conda's (conda/common/path/python.py, ``get_python_noarch_target_path``): ``site-packages/`` is in
    the library folder of the environment's Python, and ``python-scripts/`` is ``bin/``. Only paths in ``files``
    are taken.

    Args:
        recorded: The paths of ``paths_data``.
        files: The paths of ``files``, relative to the environment.

    >>> installed_paths(["site-packages/a.py"], ["lib/python3.11/site-packages/a.py"])
    {'site-packages/a.py': 'lib/python3.11/site-packages/a.py'}
    """
    moved = [path for path in recorded if path.startswith((_SITE_PACKAGES, _SCRIPTS))]
    if not moved:
        return {}
    present = frozenset(files)
    library = _library(moved, present)
    found = {}
    for path in moved:
        target = f"bin/{path[len(_SCRIPTS) :]}" if path.startswith(_SCRIPTS) else f"{library}/{path}"
        if path not in present and target in present:
            found[path] = target
    return found


def _library(moved: Iterable[str], files: Collection[str]) -> str:
    """Return the folder of site-packages, such as ``lib/python3.11``: the one in which most of the paths are."""
    wanted = {path for path in moved if path.startswith(_SITE_PACKAGES)}
    counts: Counter[str] = Counter()
    for file in files:
        # a package may have a folder site-packages of its own below the environment's
        start = file.find(f"/{_SITE_PACKAGES}")
        while start >= 0:
            if file[start + 1 :] in wanted:
                counts[file[:start]] += 1
            start = file.find(f"/{_SITE_PACKAGES}", start + 1)
    return min(counts, key=lambda folder: (-counts[folder], len(folder), folder), default="")
