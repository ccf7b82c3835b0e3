"""Local changes of a deployment: files that are not from the bundle, and files that were edited.

Such files are never removed without the user's consent. The content of a file is read only where its name, time
and size leave a doubt, so that even a large tree takes little time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.atomic import is_temporary_name
from envpack.runtime.fs.io import read_file
from envpack.runtime.relocation.files import stored_bytes
from envpack.runtime.tree.bytecode_files import is_bytecode_file
from envpack.runtime.tree.conda_digests import is_stored_record, may_have_digests
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.prefix import prefixes_in


def local_changes(root: Path) -> Iterator[str]:
    """Iterate over the paths of files and links in a tree that are not from its bundle, or were edited.

    Byte-code that Python writes by itself is left out. When the tree's own paths table can't be read and verified,
    all other files are local changes.

    Args:
        root: folder of the tree.

    Raises:
        OSError: the tree can't be read.
    """
    known: dict[str, PathRecord] = {}
    with suppress(EnvpackError):
        known = {record.path: record for record in read_head(root).table}
    prefixes = [os.fsencode(prefix) for prefix in prefixes_in(root)]
    for path in files_below(root):
        record = known.get(path)
        if record is None:
            if not is_bytecode_file(path, lambda source: (root / source).exists()):
                yield path
        elif record.type == "file" and _is_edited(root / path, record, prefixes):
            yield path


def files_below(root: Path, path: str = "") -> Iterator[str]:
    """Iterate over all paths that are no folders, in order and relative to ``root``.

    The folder ``.envpack`` and envpack's temporary files are left out.

    Args:
        root: folder of the tree.
        path: folder to list, relative to ``root``; "" for the whole tree.

    Raises:
        OSError: a folder can't be read.
    """
    with os.scandir(root / path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            below = f"{path}/{entry.name}" if path else entry.name
            if is_temporary_name(entry.name):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield below
            elif below != OWN_FOLDER:
                yield from files_below(root, below)


def _is_edited(path: Path, record: PathRecord, prefixes: list[bytes]) -> bool:
    status = os.lstat(path)
    has_digests = may_have_digests(record.path, status.st_size, record.size)
    varies = record.relocation is not None or has_digests
    if int(status.st_mtime) == record.mtime and (varies or status.st_size == record.size):
        return False
    if has_digests:
        return not is_stored_record(read_file(path), record.sha256)
    return stored_bytes(read_file(path), record.relocation, record.sha256, prefixes) is None
