"""Snapshots of a folder, for tests that compare: its paths, their contents, or all properties.

Names are relative to the folder; ``own``: whether ``.envpack``, which a deployment has, counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_files
from envpack.runtime.format.layout import DEPLOYMENT_PATH, LOCK_PATH, PREFIX_PATH


def _walk(root: Path, own: bool) -> dict[str, Path]:
    found = {}
    for folder, folders, files in os.walk(root):
        if not own and Path(folder) == root:
            folders[:] = [name for name in folders if name != ".envpack"]
        for name in (*folders, *files):
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path
    found.pop(LOCK_PATH, None)  # comes and goes
    return dict(sorted(found.items()))


def paths(root: Path, *, own: bool = True) -> dict[str, Path]:
    """Return the names of files and links."""
    return {name: path for name, path in _walk(root, own).items() if path.is_symlink() or not path.is_dir()}


def contents(root: Path, *, own: bool = True) -> dict[str, bytes]:
    """Return the bytes of files, and ``-> target`` of links; names of folders end in a slash."""
    found = {}
    for name, path in _walk(root, own).items():
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(path.readlink())
        elif path.is_dir():
            found[f"{name}/"] = b""
        else:
            found[name] = path.read_bytes()
    return found


class PathState(NamedTuple):
    """Everything about a path that two deployments of one bundle to one place have in common.

    ``mode``: type and permissions; ``content``: a file's digest, a link's target; of files also ``links``, how
    many names it has, and ``mtime`` in nanoseconds.
    """

    mode: int
    content: str
    links: int = 0
    mtime: int = 0


def snapshot(root: Path, *, own: bool = True, record: bool = True) -> dict[str, PathState]:
    """Return everything but the time of the last prefix rewrite; ``record``: also the deployment's record."""
    found = {}
    for name, path in _walk(root, own).items():
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            found[name] = PathState(facts.st_mode, str(path.readlink()))
        elif not stat.S_ISREG(facts.st_mode):
            found[name] = PathState(facts.st_mode, "")
        elif record or name != DEPLOYMENT_PATH:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            mtime = 0 if name == PREFIX_PATH else facts.st_mtime_ns
            found[name] = PathState(facts.st_mode, digest, facts.st_nlink, mtime)
    return found


def inodes(root: Path) -> dict[str, int]:
    """Return values that differ if a file was replaced by another one."""
    return {name: path.lstat().st_ino for name, path in _walk(root, True).items()}


def environment(root: Path) -> dict[str, tuple[int, str | bytes]]:
    """Permissions, and target or content, of every path that is the environment's own; folders where empty."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for name, path in _walk(root, False).items():
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[name] = (mode, str(path.readlink()))
        elif not path.is_dir():
            found[name] = (mode, path.read_bytes())
        elif not any(path.iterdir()):
            found[name] = (mode, "folder")
    return {name: facts for name, facts in found.items() if name not in runtime_files()}


def let_write(path: Path, user: int, *, default: bool = False) -> None:
    """Let a user write to a file or folder, by an access control list (acl(5)), which setfacl would make.

    With ``default`` it is the list of what is created in the folder from now on.
    """
    entries = [(0x01, 7, -1), (0x02, 7, user), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
    set_list(path, entries, default=default)


def set_list(path: Path, entries: list[tuple[int, int, int]], *, default: bool = False) -> None:
    """Set an access control list of entries with tag, permissions and id (-1: none); skip where none are."""
    listed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    name = "default" if default else "access"
    try:
        os.setxattr(path, f"system.posix_acl_{name}", struct.pack("<I", 2) + listed)
    except OSError as problem:
        pytest.skip(f"no access control lists here: {problem}")
