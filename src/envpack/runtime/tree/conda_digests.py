"""The digests of installed files in the records of packages that conda installed in a deployment.

``conda doctor`` compares a file with its ``sha256_in_prefix``. Records of a bundle have none for files that hold
the prefix; conda writes them for what it installs. When a file gets another prefix, its digest has to follow.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterable, Iterator

from envpack.runtime.format.manifest import PathsTable
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

_FOLDER = "conda-meta"


class CondaDigests:
    """The records in the tree at ``root`` with digests of relocated files.

    Args:
        root: folder of the tree.
        table: its paths table. Records with the size that they have in the table are those of the bundle.

    Attributes:
        paths: the relocated files with a digest in a record.
        others: packages with files that contain the prefix and that are not relocated, as conda installed them.
    """

    def __init__(self, root: Path, table: PathsTable) -> None:
        relocated = {record.path for record in table if record.relocation is not None}
        sizes = {record.path: record.size for record in table if record.path.startswith(f"{_FOLDER}/")}
        self.paths: set[str] = set()
        self.others: list[str] = []
        self._records: dict[str, bytes] = {}
        self._digests: dict[bytes, bytes] = {}
        for name in conda_records(root):
            with suppress(OSError, ValueError, KeyError):
                place = root / name
                if place.stat().st_size == sizes.get(name):
                    continue
                data = read_file(place)
                document = json_value(data)
                items = list(_items(document))
                found = {path for path, item in items if item.get("sha256_in_prefix")} & relocated
                if any(_has_prefix(item) and not _is_among(path, relocated) for path, item in items):
                    self.others.append(str(document["name"]))
                if found:
                    self.paths |= found
                    self._records[name] = data

    def add(self, new: bytes, earlier: Iterable[bytes]) -> None:
        """Add a file: its bytes with the new prefix, and those with each prefix that it may have had."""
        digest = hashlib.sha256(new).hexdigest().encode()
        self._digests.update((hashlib.sha256(data).hexdigest().encode(), digest) for data in earlier)

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and the new bytes of each record in which a digest of the added files changes."""
        for path, data in self._records.items():
            new = data
            for old, digest in self._digests.items():
                new = new.replace(old, digest)
            if new != data:
                yield path, new


def conda_records(root: Path) -> list[str]:
    """Return the paths of the records of conda packages in the tree at ``root``, which are plain files."""
    try:
        with os.scandir(root / _FOLDER) as listing:
            names = [
                entry.name
                for entry in listing
                if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [f"{_FOLDER}/{name}" for name in sorted(names)]


def _items(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    paths_data = document.get("paths_data") if isinstance(document, dict) else None
    paths = paths_data.get("paths") if isinstance(paths_data, dict) else None
    for item in paths if isinstance(paths, list) else ():
        if isinstance(item, dict) and isinstance(item.get("_path"), str):
            yield item["_path"], item


def _has_prefix(item: dict[str, Any]) -> bool:
    return bool(item.get("prefix_placeholder")) or item.get("path_type") == "unix_python_entry_point"


def _is_among(path: str, relocated: set[str]) -> bool:
    """Return whether a file is relocated; conda records those of noarch packages by the end of their path."""
    end = f"/{path}"
    return path in relocated or (
        path.startswith("site-packages/") and any(other.endswith(end) for other in relocated)
    )
