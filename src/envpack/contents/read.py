"""Reading of what a bundle or a deployment states of itself: manifest, paths table, metadata of packages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from envpack.contents.difference import Contents
from envpack.contents.inventory import Installed, inventory, metadata_paths
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.manifest_json import manifest_from_json
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.reader.selected_files import read_files
from envpack.runtime.transport.documents import is_parts
from envpack.runtime.transport.open import located
from envpack.runtime.tree.head import read_head

MANIFEST_END = ".json"
"""End of the names of manifests, as `envpack release` publishes them."""

_HINT = "Give the path of a bundle, a deployment, or the .manifest.json of a release."


def read_contents(where: Path | str, decoders: Mapping[str, Decoder] = STANDARD) -> Contents:
    """Return what is known of an environment.

    Args:
        where: The path or URL of a bundle, "-" for one on standard input, the path of a deployment, or that of a
            manifest.
        decoders: Functions that decompress, by codec.

    Raises:
        FormatError: It is none of these, or it does not exist.
        IntegrityError: It is damaged.
    """
    source = located(where)
    if isinstance(source, Path) and is_folder(source, follow=True):
        head = read_head(source)
        return Contents(str(source), head.manifest, head.table)
    if isinstance(source, Path) and source.name.endswith(MANIFEST_END) and not is_parts(source.name):
        return Contents(str(source), _read_manifest(source), None)
    with open_bundle(source, decoders) as bundle:
        return Contents(bundle.name, bundle.manifest, bundle.table())


class Inventory(NamedTuple):
    """The packages of an environment.

    Attributes:
        manifest: The manifest of the environment.
        manifest_sha256: Its digest, in hexadecimal.
        installed: The packages.
    """

    manifest: Manifest
    manifest_sha256: str
    installed: list[Installed]


def read_inventory(where: Path | str, decoders: Mapping[str, Decoder] = STANDARD) -> Inventory:
    """Return the packages of an environment; of a bundle, only the frames that hold their metadata are read.

    Args:
        where: The path or URL of a bundle, "-" for one on standard input, or the path of a deployment.
        decoders: Functions that decompress, by codec.

    Raises:
        FormatError: It is neither, or does not exist.
        IntegrityError: It is damaged.
        PackError: A conda record is broken.
    """
    source = located(where)
    if isinstance(source, Path) and is_folder(source, follow=True):
        manifest, table, digest = read_head(source)
        files = {path: _deployed(source, path) for path in sorted(metadata_paths(table))}
        return Inventory(manifest, digest, inventory(manifest, table, files))
    with open_bundle(source, decoders) as bundle:
        table = bundle.table()
        files = dict(read_files(bundle, table, metadata_paths(table), processors()))
        digest = hashlib.sha256(bundle.manifest_bytes).hexdigest()
        return Inventory(bundle.manifest, digest, inventory(bundle.manifest, table, files))


def _deployed(root: Path, path: str) -> bytes:
    try:
        return read_file(root / path)
    except OSError as problem:
        raise IntegrityError(
            f"{root / path}: {problem.strerror}", hint=f"See what is missing with 'envpack verify {root}'."
        ) from None


def _read_manifest(path: Path) -> Manifest:
    try:
        return manifest_from_json(read_file(path))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint=_HINT) from None
    except FormatError as error:
        raise FormatError(f"{path} is not a manifest of a release: {error.message}", hint=_HINT) from None
