"""Completion of ``conda-meta`` in a prefix that was built, as conda writes it: the history, and the byte-code.

conda takes from the history what was asked for (conda/history.py): without it, ``conda remove`` also removes all
packages that no other package depends on. It deletes the byte-code that a record lists.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envpack.build.bytecode import SOURCE_MTIME, source_of_bytecode
from envpack.lock.formats.package_urls import url_path
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.temporary import replace_file
from envpack.spec.credentials import without_credentials

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_ALIAS = "https://conda.anaconda.org/"
_DEFAULTS = re.compile(r"https://repo\.anaconda\.com/pkgs/(?:main|r|msys2)")


def write_history(prefix: Path, records: Sequence[RepoDataRecord], requested: Sequence[str]) -> None:
    """Write ``conda-meta/history`` with one revision, which has the packages and what was asked for.

    The same packages give the same bytes: the time is the build time of the newest package.

    Args:
        prefix: The prefix.
        records: Its conda packages.
        requested: MatchSpecs that were asked for; if empty (a lock of another tool), every package was.
    """
    specs = list(requested) or sorted(record.name.normalized for record in records)
    times = [record.timestamp for record in records if record.timestamp]  # rattler gives 0 for 1970
    made = max(times, default=datetime.fromtimestamp(SOURCE_MTIME, timezone.utc))
    lines = [
        f"==> {made.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} <==",
        "# cmd: envpack build",
        *sorted(f"+{dist_name(record)}" for record in records),
        *([f"# update specs: {specs}"] if specs else []),
    ]
    write_metadata(prefix / "conda-meta/history", "\n".join(lines) + "\n")


def write_metadata(path: Path, text: str) -> None:
    """Write a file in ``conda-meta``, as a new one: a package's file there may be a link into a package cache."""
    replace_file(path, text.encode(), durable=False)


def dist_name(record: RepoDataRecord) -> str:
    """Return a package's name in the history: ``conda-forge/noarch::idna-3.10-pyhd8ed1ab_1``.

    The channel has the name that conda gives it with its default configuration (conda/models/channel.py,
    ``canonical_name``).
    """
    channel = (record.channel or record.url.rpartition("/")[0]).rstrip("/")
    channel = without_credentials(channel.removesuffix(f"/{record.subdir}"))
    if url_path(channel) is None and _DEFAULTS.fullmatch(channel):
        channel = "defaults"
    name = f"{record.name.normalized}-{record.version}-{record.build}"
    return f"{channel.removeprefix(_ALIAS)}/{record.subdir}::{name}"


def record_bytecode(prefix: Path, sources: Collection[str]) -> None:
    """Add the byte-code of ``sources`` to the records of the packages that the sources belong to.

    Args:
        prefix: The prefix.
        sources: Sources that were compiled, relative to the prefix.
    """
    made = _bytecode(prefix, sources)
    if not made:
        return
    for place in sorted((prefix / "conda-meta").glob("*.json")):
        document = json_value(read_file(place))
        if _add(document, made):
            write_metadata(place, json.dumps(document))


def _bytecode(prefix: Path, sources: Collection[str]) -> dict[str, list[str]]:
    """Return the byte-code files of each source."""
    wanted, found = set(sources), defaultdict(list)
    for folder in {source.rpartition("/")[0] for source in wanted}:
        for file in _names(prefix / folder / "__pycache__"):
            path = f"{folder}/__pycache__/{file}"
            source = source_of_bytecode(path)
            if source in wanted:
                found[source].append(path)
    return found


def _names(folder: Path) -> Iterable[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ()


def _add(document: Any, made: dict[str, list[str]]) -> bool:
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list):
        return False
    known = set(files)
    new = sorted(path for file in files for path in made.get(file, ()) if path not in known)
    if not new:
        return False
    document["files"] = [*files, *new]
    paths_data = document.get("paths_data")
    if isinstance(paths_data, dict) and isinstance(paths_data.get("paths"), list):
        paths_data["paths"] += [{"_path": path, "path_type": "pyc_file"} for path in new]
    return True
