"""What the paths table of an environment that envpack deployed before says of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from envpack.prefix.model import Published
from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.fs.io import read_file


def placeholders_of_deployment(prefix: Path) -> Mapping[str, Published]:
    """Return the published file for each path in the deployment's paths table; empty for other environments.

    The records in its conda-meta name no placeholders any more (see conda_meta.portable_record). The table may be
    wrong by now: callers use an entry only where a digest verifies it.
    """
    return {
        record.path: Published(
            sha256=record.sha256,
            size=record.size,
            placeholder=record.relocation.placeholder,
            file_mode="binary" if record.relocation.binary else "text",
        )
        for record in _table(prefix)
        if record.relocation is not None and not record.relocation.marshal
    }


def as_deployed(prefix: Path, paths: Collection[str]) -> frozenset[str]:
    """Return those of some files without the prefix that are still as the deployment's bundle brought them."""
    if not paths:
        return frozenset()
    digests = {record.path: record.sha256 for record in _table(prefix) if record.path in paths}
    return frozenset(
        path
        for path, sha256 in digests.items()
        if (prefix / path).is_file() and hashlib.sha256(read_file(prefix / path)).hexdigest() == sha256
    )


def _table(prefix: Path) -> Iterable[PathRecord]:
    try:
        return table_from_json(read_file(prefix / PATHS_PATH))
    except (OSError, EnvpackError):
        return ()
