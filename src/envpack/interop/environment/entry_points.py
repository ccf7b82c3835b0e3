"""The scripts that conda writes itself for the entry points of noarch packages.

Their first line is the environment's Python (conda/gateways/disk/create.py, ``python_entry_point_template``).
conda records no digest of them; rattler does.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

_KIND = "unix_python_entry_point"


def entry_points(prefix: Path) -> frozenset[str]:
    """Return the paths of these scripts in an environment; records that can't be read have none."""
    found = set()
    for place in (prefix / "conda-meta").glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = read_file(place)
            if _KIND.encode() in data:
                paths = json_value(data)["paths_data"]["paths"]
                found |= {str(item["_path"]) for item in paths if item.get("path_type") == _KIND}
    return frozenset(found)
