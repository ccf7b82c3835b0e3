"""Readers of the manifest and the paths table in an unpacked tree."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from envpack.runtime.errors import (
    DestinationError,
    EnvpackError,
    FormatError,
    IntegrityError,
    failed_path,
    path_hint,
)
from envpack.runtime.format.layout import DEPLOYMENT_PATH, DIGEST_PATH, MANIFEST_PATH, OWN_FOLDER, PATHS_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.format.manifest_json import digest_line, manifest_from_json
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

ROOM = "room"
"""The name, in what a deployment allows, that lets its path be longer than the strings in its binaries."""


def allows_room(root: Path) -> bool:
    """Return whether the deployment at ``root`` was made with ROOM allowed."""
    with suppress(OSError, EnvpackError, ValueError, KeyError, TypeError):
        record = json_value(read_file(root / DEPLOYMENT_PATH))
        return ROOM in record["check"]["allow"]
    return False


def prefix_limit(root: Path) -> tuple[int | None, str]:
    """Return the maximum prefix length of the tree at ``root``, in bytes, and the path that limits it.

    The length is None when any prefix fits or is allowed, or when the manifest can't be read: `rewrite_prefix`
    then reports the error. The manifest is not verified.
    """
    if allows_room(root):
        return None, ""
    with suppress(OSError, EnvpackError):
        manifest = manifest_from_json(read_file(root / MANIFEST_PATH))
        return manifest.longest_prefix, manifest.limited_by
    return None, ""


class TreeHead(NamedTuple):
    """The manifest and the paths table of an unpacked tree.

    Attributes:
        manifest: the manifest.
        table: the paths table.
        manifest_sha256: digest of the manifest's bytes, in hex.
    """

    manifest: Manifest
    table: PathsTable
    manifest_sha256: str


def read_head(root: Path) -> TreeHead:
    """Return the manifest and the paths table of an unpacked tree, verified against their digests.

    Raises:
        FormatError: ``root`` is no tree that envpack unpacked, or a field is wrong.
        IntegrityError: the manifest or the paths table was changed.
    """
    from envpack.runtime.format.paths_json import table_from_json  # an activation reads manifests only

    manifest_bytes = _read_manifest(root)
    manifest = manifest_from_json(manifest_bytes)
    table_bytes = _read(root, PATHS_PATH)
    if hashlib.sha256(table_bytes).hexdigest() != manifest.paths_sha256:
        raise IntegrityError(f"the paths table in {root / OWN_FOLDER} was changed")
    return TreeHead(manifest, table_from_json(table_bytes), hashlib.sha256(manifest_bytes).hexdigest())


def read_manifest(root: Path, *, hint: str = "") -> Manifest:
    """Return the manifest of an unpacked tree, verified against its digest.

    Args:
        root: folder of the tree.
        hint: hint of the error when it is no such tree.

    Raises:
        FormatError: ``root`` is no tree that envpack unpacked, or a field is wrong.
        IntegrityError: the manifest was changed.
    """
    return manifest_from_json(_read_manifest(root, hint))


def _read_manifest(root: Path, hint: str = "") -> bytes:
    manifest = _read(root, MANIFEST_PATH, hint)
    if _read(root, DIGEST_PATH, hint) != digest_line(manifest):
        raise IntegrityError(f"the manifest in {root / OWN_FOLDER} was changed")
    return manifest


def _read(root: Path, path: str, hint: str = "") -> bytes:
    try:
        return read_file(root / path)
    except OSError as problem:
        why = f"{problem.strerror}: {failed_path(problem, root)}"
        if isinstance(problem, PermissionError):
            raise DestinationError(f"can't read {root}: {why}", hint=path_hint(problem)) from None
        raise FormatError(
            f"{root} is not an environment that envpack unpacked: {why}",
            hint=hint,
        ) from None


def check_record(root: Path, digest: str) -> None:
    """Check the manifest's digest against the deployment record, if the tree has one.

    The manifest and the digest beside it could have been changed together.

    Args:
        root: folder of the tree.
        digest: sha256 of the manifest's bytes.

    Raises:
        IntegrityError: the record can't be read, or has another digest.
    """
    try:
        record = json_value(read_file(root / DEPLOYMENT_PATH))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        raise IntegrityError(f"{root / DEPLOYMENT_PATH} can't be read: {problem}") from None
    if not isinstance(record, dict) or record.get("manifest_sha256") != digest:
        raise IntegrityError(f"the manifest in {root / OWN_FOLDER} is not the one that was deployed")
