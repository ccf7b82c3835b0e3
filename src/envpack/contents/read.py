"""Reading of the manifest and the paths table of a bundle or a deployment, for comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envpack.contents.difference import Contents
from envpack.runtime.errors import FormatError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.manifest_json import manifest_from_json
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.transport.open import local_path
from envpack.runtime.tree.head import read_head

MANIFEST_END = ".json"
"""End of the names of manifests, as `envpack release` publishes them."""

_HINT = "Give the path of a bundle, a deployment, or the .manifest.json of a release."


def read_contents(where: str, decoders: Mapping[str, Decoder] = STANDARD) -> Contents:
    """Return what is known of an environment.

    Args:
        where: The path or URL of a bundle, "-" for one on standard input, the path of a deployment, or that of a
            manifest.
        decoders: Functions that decompress, by codec.

    Raises:
        FormatError: It is none of these, or it does not exist.
        IntegrityError: It is damaged.
    """
    source = local_path(where)
    if isinstance(source, Path) and is_folder(source, follow=True):
        head = read_head(source)
        return Contents(str(source), head.manifest, head.table)
    if isinstance(source, Path) and source.name.endswith(MANIFEST_END):
        return Contents(str(source), _read_manifest(source), None)
    with open_bundle(source, decoders) as bundle:
        return Contents(bundle.name, bundle.manifest, bundle.table())


def _read_manifest(path: Path) -> Manifest:
    try:
        return manifest_from_json(read_file(path))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint=_HINT) from None
    except FormatError as error:
        raise FormatError(f"{path} is not a manifest of a release: {error.message}", hint=_HINT) from None
