"""The documents of a release: its manifest, its SBOM, its signature, and notes on what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.publish.base import Publisher, Upload
from envpack.publish.local import checksum_path, sha256_of
from envpack.publish.names import SUFFIXES, BundleName, parse_bundle_name
from envpack.publish.release import CHECKSUM, SIGNATURE, ReleaseFiles
from envpack.runtime.errors import FormatError, IntegrityError, UsageError
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.runtime.format.manifest import Manifest

MANIFEST, SBOM, NOTES = ".manifest.json", ".cdx.json", ".notes.md"
"""What the names of a release's documents have after the stem; the second is the one that CycloneDX recommends."""

_MAX_SMALL = 1 << 20


def files_of(bundle: Path, reporter: Reporter) -> tuple[ReleaseFiles, str]:
    """Return the files to publish for a bundle, and the digest of its manifest in hex.

    Args:
        bundle: The path of the bundle.
        reporter: Receives the progress of reading it.

    Raises:
        FormatError: It is not a bundle, or its name has another suffix than those of bundles.
        IntegrityError: It is damaged, or it is not the one that the checksum beside it belongs to.
        UsageError: Its name is that of a release of another environment, version or platform.
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.cyclonedx import cyclonedx
    from envpack.contents.read import read_inventory
    from envpack.runtime.format.manifest_json import manifest_to_json

    inventory = read_inventory(bundle, FAST)
    stem = _stem(bundle)
    _compare_name(bundle, inventory.manifest)
    with reporter.step("Reading the bundle", total=bundle.stat().st_size) as step:
        sha256 = sha256_of(bundle, step)
    stated = _beside(checksum_path(bundle))
    if stated is not None and stated.split(maxsplit=1)[:1] != [sha256.encode()]:
        raise IntegrityError(f"{bundle} has another SHA-256 than {checksum_path(bundle).name} says")
    documents = [
        Upload.of(stem + MANIFEST, manifest_to_json(inventory.manifest)),
        Upload.of(stem + SBOM, cyclonedx(*inventory)),
    ]
    for name in (stem + NOTES, bundle.name + SIGNATURE):
        content = _beside(bundle.with_name(name))
        if content is not None:
            documents.append(Upload.of(name, content))
    return ReleaseFiles(Upload(bundle.name, bundle, sha256), tuple(documents)), inventory.manifest_sha256


def notes_since_last(publishers: Sequence[Publisher], manifest: Manifest) -> bytes | None:
    """Return Markdown with what changed since the newest release of an environment.

    Args:
        publishers: The places to look for it; the first that has one counts.
        manifest: The manifest of the new release.

    Returns:
        None where there is no earlier release with a manifest that can be read.

    Raises:
        DestinationError: A place can't be read.
    """
    from envpack.contents.difference import Contents, difference
    from envpack.contents.markdown import markdown
    from envpack.runtime.format.manifest_json import manifest_from_json

    for publisher in publishers:
        for last in _newest_first(publisher, manifest):
            try:
                before = manifest_from_json(publisher.read(last.stem + MANIFEST))
            except (FileNotFoundError, FormatError):
                continue
            found = difference(Contents(str(last), before, None), Contents(manifest.name, manifest, None))
            return markdown(found).encode()
    return None


def _newest_first(publisher: Publisher, manifest: Manifest) -> list[BundleName]:
    claims = (file.removesuffix(CHECKSUM) for file in publisher.files() if file.endswith(CHECKSUM))
    names = filter(None, map(parse_bundle_name, claims))
    same = [name for name in names if (name.name, name.subdir) == (manifest.name, manifest.subdir)]
    return sorted(same, key=lambda name: name.age, reverse=True)


def _compare_name(bundle: Path, manifest: Manifest) -> None:
    """Refuse the name of another release: what is deployed by it would be refused, or be taken for that one."""
    name = parse_bundle_name(bundle.name)
    if name is None:
        return
    own = replace(name, name=manifest.name, version=manifest.version, subdir=manifest.subdir)
    if own != name:
        raise UsageError(
            f"{bundle} is {manifest.name} {manifest.version} for {manifest.subdir}, and its name says {name.name} "
            f"{name.version} for {name.subdir}",
            hint=f"Rename it to {own}.",
        )


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
