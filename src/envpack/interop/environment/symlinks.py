"""Symbolic links of an unpacked archive: where they lead, and links that a zip holds as copies."""

from __future__ import annotations

import filecmp
import hashlib
import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from envpack.interop.archive.members import safe_path
from envpack.prefix.owners.noarch_paths import installed_record
from envpack.prefix.owners.softlinks import record_of_files
from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value


def check_links(folder: Path, links: Iterable[str], prefix: bytes) -> None:
    """Make links relative, and check that none, resolved through all links on its way, leads out of a folder.

    A link to the earlier path of the environment is replaced before anything follows it: on this host, other files
    can be at that path.

    Args:
        folder: The folder.
        links: Paths of links, relative to the folder.
        prefix: The earlier path of the environment.

    Raises:
        IntegrityError: A link leads out of the folder.
    """
    root, former = os.path.realpath(folder), os.fsdecode(prefix).rstrip("/")
    targets = {path: os.readlink(folder / path) for path in links}
    for path, target in targets.items():
        if former and f"{target}/".startswith(f"{former}/"):
            inside = target[len(former) :].strip("/") or "."
            os.unlink(folder / path)
            os.symlink(posixpath.relpath(inside, posixpath.dirname(path) or "."), folder / path)
    for path, target in targets.items():
        real = os.path.realpath(os.path.join(root, path))
        if real != root and not real.startswith(f"{root}/"):
            raise IntegrityError(f"the link {path!r} has a target outside the environment: {target!r}")


def restore_links(folder: Path) -> Iterator[str]:
    """Replace copies by the links they were, and yield the paths of these.

    A file is replaced when conda-meta records it as a link, and its content is that of another path of the same
    package in the same folder, or the content that this other path was published with.

    conda-pack writes copies of links into a zip unless an option says otherwise (``ZipArchive._add``), and does
    not record them for ``conda-unpack``.
    """
    for record in sorted((folder / "conda-meta").glob("*.json")):
        links, files = _paths(record)
        by_folder: dict[str, list[str]] = defaultdict(list)
        for path in files:
            if _is_file(folder / path):
                by_folder[posixpath.dirname(path)].append(path)
        for path in links:
            if not _is_file(folder / path):
                continue
            digest = hashlib.sha256(read_file(folder / path)).hexdigest()
            for other in by_folder[posixpath.dirname(path)]:
                same = files[other] == digest or filecmp.cmp(folder / path, folder / other, shallow=False)
                if same and other != path:
                    os.unlink(folder / path)
                    os.symlink(posixpath.basename(other), folder / path)
                    yield path
                    break


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _paths(record: Path) -> tuple[list[str], dict[str, object]]:
    """Return the links that a package's record lists, and its files with their published sha256.

    Both are empty for a broken record: the reader of the environment reports that.
    """
    links: list[str] = []
    files: dict[str, object] = {}
    try:
        for item in installed_record(record_of_files(json_value(read_file(record))))["paths_data"]["paths"]:
            path, kind = safe_path(item["_path"]), item.get("path_type")
            if kind == "softlink":
                links.append(path)
            elif kind == "hardlink":
                files[path] = item.get("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], {}
    return links, files
