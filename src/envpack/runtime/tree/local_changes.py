"""Local changes of a deployment: files that are not from the bundle, and those that were edited or replaced.

Such files are never removed without the user's consent. The content of a file is read only where its name, time
and size leave a doubt, so that even a large tree takes little time.
"""

from __future__ import annotations

import os
import stat
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
from envpack.runtime.tree.compare import with_content
from envpack.runtime.tree.conda_digests import is_stored_record, may_have_digests
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.prefix import prefixes_in


def local_changes(root: Path) -> Iterator[str]:
    """Iterate over the paths of files and links in a tree that are not of its bundle, or were changed.

    A link that leads elsewhere, a path that has become another kind, and one that can't be read are changed, too.
    Byte-code that Python writes by itself is left out. When the tree's own paths table can't be read and verified,
    all other files are local changes.

    Args:
        root: folder of the tree.

    Raises:
        OSError: the tree can't be read.
    """
    known: dict[str, tuple[PathRecord, PathRecord]] = {}
    with suppress(EnvpackError):
        known = {record.path: (record, content) for record, content in with_content(read_head(root).table)}
    prefixes = [os.fsencode(prefix) for prefix in prefixes_in(root)]
    for path in files_below(root):
        if path in known:
            if _is_changed(root / path, *known[path], prefixes):
                yield path
        elif not is_bytecode_file(path, lambda source: (root / source).exists()):
            yield path


def files_below(root: Path, path: str = "") -> Iterator[str]:
    """Iterate over all paths that are no folders, or folders that can't be read, in order, relative to ``root``.

    The folder ``.envpack`` and envpack's temporary files are left out.

    Args:
        root: folder of the tree.
        path: folder to list, relative to ``root``; "" for the whole tree.

    Raises:
        OSError: ``root`` itself can't be read.
    """
    try:
        with os.scandir(root / path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        if not path:
            raise
        yield path
        return
    for entry in entries:
        below = f"{path}/{entry.name}" if path else entry.name
        if is_temporary_name(entry.name):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield below
        elif below != OWN_FOLDER:
            yield from files_below(root, below)


def _is_changed(path: Path, record: PathRecord, content: PathRecord, prefixes: list[bytes]) -> bool:
    """Return whether a path differs from its record; ``content``: the record of its bytes, see `with_content`."""
    try:
        status = os.lstat(path)
        if record.type == "symlink":
            return not stat.S_ISLNK(status.st_mode) or os.readlink(path) != record.target
        if record.type == "directory" or not stat.S_ISREG(status.st_mode):
            return True
        return _is_edited(path, status, content, prefixes)
    except OSError:
        return True


def _is_edited(path: Path, status: os.stat_result, content: PathRecord, prefixes: list[bytes]) -> bool:
    has_digests = may_have_digests(content.path, status.st_size, content.size)
    varies = content.relocation is not None or has_digests
    if int(status.st_mtime) == content.mtime and (varies or status.st_size == content.size):
        return False
    if has_digests:
        return not is_stored_record(read_file(path), content.sha256)
    return stored_bytes(read_file(path), content.relocation, content.sha256, prefixes) is None
