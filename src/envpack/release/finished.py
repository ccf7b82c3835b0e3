"""The files of a release, made from a finished bundle: its manifest, its SBOM, and the signature beside it."""

from __future__ import annotations

from pathlib import Path

from envpack.publish.base import Upload
from envpack.publish.local import checksum_path, sha256_of
from envpack.publish.names import SUFFIXES
from envpack.publish.release import SIGNATURE, ReleaseFiles
from envpack.release.make import MANIFEST, SBOM
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter

_MAX_SMALL = 1 << 20


def files_of(bundle: Path, reporter: Reporter) -> tuple[ReleaseFiles, str]:
    """Return the files to publish for a bundle, and the digest of its manifest in hex.

    Args:
        bundle: The path of the bundle.
        reporter: Receives the progress of reading it.

    Raises:
        FormatError: It is not a bundle, or its name has another suffix than those of bundles.
        IntegrityError: It is damaged, or it is not the one that the checksum beside it belongs to.
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.cyclonedx import cyclonedx
    from envpack.contents.read import read_inventory
    from envpack.runtime.format.manifest_json import manifest_to_json

    inventory = read_inventory(bundle, FAST)
    stem = _stem(bundle)
    with reporter.step("Reading the bundle", total=bundle.stat().st_size) as step:
        sha256 = sha256_of(bundle, step)
    stated = _beside(checksum_path(bundle))
    if stated is not None and stated.split(maxsplit=1)[:1] != [sha256.encode()]:
        raise IntegrityError(f"{bundle} has another SHA-256 than {checksum_path(bundle).name} says")
    documents = [
        Upload.of(stem + MANIFEST, manifest_to_json(inventory.manifest)),
        Upload.of(stem + SBOM, cyclonedx(*inventory)),
    ]
    signature = _beside(bundle.with_name(bundle.name + SIGNATURE))
    if signature is not None:
        documents.append(Upload.of(bundle.name + SIGNATURE, signature))
    return ReleaseFiles(Upload(bundle.name, bundle, sha256), tuple(documents)), inventory.manifest_sha256


def _stem(bundle: Path) -> str:
    for suffix in SUFFIXES.values():
        if bundle.name.endswith(suffix):
            return bundle.name.removesuffix(suffix)
    raise FormatError(
        f"{bundle} has not the name of a bundle", hint=f"Rename it to *{' or *'.join(SUFFIXES.values())}."
    )


def _beside(path: Path) -> bytes | None:
    try:
        return read_file(path, _MAX_SMALL)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}") from None
