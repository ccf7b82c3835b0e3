"""Readers of the manifest and the paths table in an unpacked tree."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from envpack.runtime.errors import EnvpackError, FormatError, IntegrityError
from envpack.runtime.format.layout import DEPLOYMENT_PATH, DIGEST_PATH, MANIFEST_PATH, PATHS_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.format.manifest_json import digest_line, manifest_from_json
from envpack.runtime.format.paths_json import table_from_json


def limit_of(root: Path) -> tuple[int | None, str]:
    """Return the maximum prefix length of the tree at ``root``, in bytes, and the path that limits it.

    The length is None when any prefix fits, or when the manifest can't be read: `rewrite_prefix` then reports the
    error. The manifest is not verified.
    """
    with suppress(OSError, EnvpackError):
        manifest = manifest_from_json((root / MANIFEST_PATH).read_bytes())
        return manifest.longest_prefix, manifest.limited_by
    return None, ""


def read_head(root: Path) -> tuple[Manifest, PathsTable]:
    """Return the manifest and the paths table of an unpacked tree, verified against their digests.

    Raises:
        FormatError: ``root`` is no tree that envpack unpacked, or a field is wrong.
        IntegrityError: the manifest or the paths table was changed.
    """
    try:
        manifest_bytes = (root / MANIFEST_PATH).read_bytes()
        digest = (root / DIGEST_PATH).read_bytes()
        table_bytes = (root / PATHS_PATH).read_bytes()
    except OSError as problem:
        raise FormatError(
            f"{root} is no environment that envpack unpacked: {problem.strerror}: {problem.filename}"
        ) from None
    manifest = manifest_from_json(manifest_bytes)
    table_digest = hashlib.sha256(table_bytes).hexdigest()
    if digest != digest_line(manifest_bytes) or table_digest != manifest.paths_sha256:
        raise IntegrityError(f"the manifest or the paths table in {root / '.envpack'} was changed")
    return manifest, table_from_json(table_bytes)


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of an unpacked tree, verified against its digest.

    Raises:
        FormatError: ``root`` is no tree that envpack unpacked, or a field is wrong.
        IntegrityError: the manifest was changed.
    """
    try:
        manifest = (root / MANIFEST_PATH).read_bytes()
        digest = (root / DIGEST_PATH).read_bytes()
    except OSError as problem:
        raise FormatError(
            f"{root} is no environment that envpack unpacked: {problem.strerror}: {problem.filename}",
            hint="Give the path of a bundle, of a folder that one was deployed to, or of a conda environment.",
        ) from None
    if digest != digest_line(manifest):
        raise IntegrityError(f"the manifest in {root / '.envpack'} was changed")
    return manifest_from_json(manifest)


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
        record = json.loads((root / DEPLOYMENT_PATH).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as problem:
        raise IntegrityError(f"{root / DEPLOYMENT_PATH} can't be read: {problem}") from None
    if not isinstance(record, dict) or record.get("manifest_sha256") != digest:
        raise IntegrityError(f"the manifest in {root / '.envpack'} is not the one that was deployed")
