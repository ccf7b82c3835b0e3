"""A release: a bundle is built and published with its documents, in a folder and in other places."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.publish.base import Publisher, ignore
from envpack.publish.latest import LatestRelease, PointerSigner, point_to
from envpack.publish.local import LocalFolder
from envpack.publish.names import SUFFIXES
from envpack.publish.release import incomplete, publish_new
from envpack.release.documents import MANIFEST, NOTES, SBOM, notes_since_last
from envpack.release.make import Made, Recipe, bundle_name, digest_of, packed
from envpack.runtime.errors import EnvpackError, UsageError
from envpack.runtime.report import Reporter

if TYPE_CHECKING:
    from envpack.signing.keys import SecretKey


def release_bundle(
    recipe: Recipe,
    folder: LocalFolder,
    reporter: Reporter,
    key: SecretKey | None = None,
    targets: Sequence[Publisher] = (),
    signer: PointerSigner | None = None,
) -> Made:
    """Build a bundle, and publish it with its documents under a name that is new there.

    These are its ``.sha256``, its ``.manifest.json``, its ``.cdx.json``, a software bill of materials, and its
    ``.notes.md`` with what changed since the newest release of this environment in the targets or the folder.

    The second release of a day gets ``.1`` after the date, and so on: nothing is ever overwritten. Where the
    bundle exists, its other files exist too; after an error there is none of them.

    Args:
        recipe: The settings.
        folder: The folder to publish in.
        reporter: Receives the progress.
        key: The key to sign with; with it a ``.minisig`` is written too.
        targets: Places to publish to after the folder, under the same name.
        signer: Signs the pointers to the latest release there; None for pointers without signature.

    Raises:
        EnvpackError: Building, packing or writing failed.
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.cyclonedx import cyclonedx
    from envpack.contents.read import read_inventory
    from envpack.runtime.format.manifest_json import manifest_to_json

    _check_different([folder, *targets])
    started = time.monotonic()
    suffix = SUFFIXES[recipe.format]
    with packed(recipe, folder, suffix, reporter) as (finished, manifest, selection):
        sha256, size = digest_of(finished, reporter), finished.stat().st_size
        names = (bundle_name(recipe, manifest, ordinal) for ordinal in itertools.count())
        document = manifest_to_json(manifest)
        documents = {MANIFEST: document, SBOM: cyclonedx(*read_inventory(finished, FAST))}
        notes = notes_since_last([*targets, folder], manifest)
        if notes is not None:
            documents[NOTES] = notes
        with _publishing(reporter, size * len(targets)) as progress:
            found = publish_new(
                [folder, *targets],
                finished,
                names,
                sha256=sha256,
                documents=documents,
                sign=_signer(key, document),
                progress=progress,
            )
            release = LatestRelease(found.name, size, sha256, hashlib.sha256(document).hexdigest())
            latest = _point_everywhere(targets, release, signer, found.bundle)
    seconds = round(time.monotonic() - started, 3)
    return Made(
        found.bundle,
        found.checksum,
        sha256,
        size,
        manifest,
        selection,
        seconds,
        manifest_file=found.documents[MANIFEST],
        sbom=found.documents[SBOM],
        signature=found.signature,
        notes=found.documents.get(NOTES),
        published=tuple(target.address(str(found.name)) for target in targets),
        latest=latest,
    )


def _point_everywhere(
    targets: Sequence[Publisher], release: LatestRelease, signer: PointerSigner | None, bundle: str
) -> tuple[str, ...]:
    """Make the pointers of all places lead to a release, also of those behind one that fails."""

    def point(target: Publisher) -> str | EnvpackError:
        try:
            return point_to(target, release, signer)
        except EnvpackError as problem:
            return problem

    results = [point(target) for target in targets]
    for result in results:
        if isinstance(result, EnvpackError):
            raise incomplete(bundle, result)
    return tuple(map(str, results))


def _check_different(publishers: Sequence[Publisher]) -> None:
    """Raise UsageError where a place is given twice: the name of the first would be taken for the second."""
    seen = set()
    for publisher in publishers:
        address = publisher.address("")
        place = str(Path(address).resolve()) if isinstance(publisher, LocalFolder) else address
        if place in seen:
            raise UsageError(f"the release would be published in {address} twice", hint="Give each target once.")
        seen.add(place)


@contextmanager
def _publishing(reporter: Reporter, total: int) -> Iterator[Callable[[int], None]]:
    if not total:
        yield ignore
        return
    with reporter.step("Publishing the release", total=total) as step:
        yield step.advance


def _signer(key: SecretKey | None, manifest: bytes) -> Callable[[str], bytes] | None:
    if key is None:
        return None
    from envpack.signing.bundle import sign_manifest

    return lambda bundle: sign_manifest(manifest, Path(bundle), key, "").text.encode()
