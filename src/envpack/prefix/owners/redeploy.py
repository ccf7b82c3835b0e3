"""Placeholders of an environment that envpack deployed before.

The records in its conda-meta name no placeholders any more (see conda_meta.portable_record); the paths table of
the deployment does, so the published files can be verified again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envpack.prefix.model import Published
from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import PATHS_PATH
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.fs.io import read_file


def placeholders_of_deployment(prefix: Path) -> Mapping[str, Published]:
    """Return the published file for each path in the deployment's paths table; empty for other environments.

    The table may be wrong by now: callers use an entry only where a digest verifies it.
    """
    try:
        table = table_from_json(read_file(prefix / PATHS_PATH))
    except (OSError, EnvpackError):
        return {}
    return {
        record.path: Published(
            sha256=record.sha256,
            size=record.size,
            placeholder=record.relocation.placeholder,
            file_mode="binary" if record.relocation.binary else "text",
        )
        for record in table
        if record.relocation is not None and not record.relocation.marshal
    }
