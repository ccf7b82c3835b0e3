"""What somebody has put into a deployment since: files that no bundle brought, and files that were edited.

Such files are never removed unasked. Only names and times are compared, as long as these leave no doubt, so that a
large tree takes a moment.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.fs.atomic import is_on_its_way
from envpack.runtime.relocation.files import stored_bytes
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.prefix import prefixes_in


def additions(root: Path) -> Iterator[str]:
    """Paths of files and links, below the tree at ``root``, that its bundle did not bring or that were edited
    since.

    Byte-code that Python writes by itself is none of them. Where the tree's own table can't be believed, every
    file is one. Raises OSError.
    """
    known: dict[str, PathRecord] = {}
    with suppress(EnvpackError):
        known = {record.path: record for record in read_head(root)[1]}
    prefixes = [os.fsencode(prefix) for prefix in prefixes_in(root)]
    for path in files_below(root):
        record = known.get(path)
        if record is None:
            if not is_bytecode(path, root):
                yield path
        elif record.type == "file" and _is_edited(root / path, record, prefixes):
            yield path


def extra_files(root: Path, table: PathsTable) -> Iterator[str]:
    """Paths of files and links below ``root`` that ``table`` does not have, byte-code apart. Raises OSError."""
    known = {record.path for record in table}
    return (path for path in files_below(root) if path not in known and not is_bytecode(path, root))


def files_below(root: Path, path: str = "") -> Iterator[str]:
    """Everything but folders, in order, as paths below ``root``; envpack's own folder and files apart. Raises
    OSError."""
    with os.scandir(root / path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            below = f"{path}/{entry.name}" if path else entry.name
            if is_on_its_way(entry.name):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield below
            elif below != OWN_FOLDER:
                yield from files_below(root, below)


def is_bytecode(path: str, root: Path) -> bool:
    """Whether Python made this file by itself, and would make it again."""
    folder, _, name = path.rpartition("/")
    if not name.endswith(".pyc"):
        return False
    return folder.rpartition("/")[2] == "__pycache__" or (root / path[:-1]).exists()


def _is_edited(path: Path, record: PathRecord, prefixes: list[bytes]) -> bool:
    status = os.lstat(path)
    if int(status.st_mtime) == record.mtime and (record.relocation is not None or status.st_size == record.size):
        return False
    data = path.read_bytes()
    if record.relocation is not None:
        return stored_bytes(data, record.relocation, record.sha256, prefixes) is None
    return hashlib.sha256(data).hexdigest() != record.sha256
