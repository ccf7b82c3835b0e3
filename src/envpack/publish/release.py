"""A release: the files of a bundle, their names, and the order in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.publish.base import Publisher, Release, Upload, ignore
from envpack.publish.names import BundleName
from envpack.runtime.errors import DestinationError, EnvpackError

CHECKSUM, SIGNATURE = ".sha256", ".minisig"
"""What the names of a bundle's checksum and signature have after the bundle's."""


@dataclass(frozen=True)
class ReleaseFiles:
    """The files of a release.

    Attributes:
        bundle: The bundle.
        documents: The files beside it: manifest, SBOM, signature.
    """

    bundle: Upload
    documents: tuple[Upload, ...] = ()

    @property
    def claim(self) -> Upload:
        """Return the checksum, which is written first and reserves the name."""
        return Upload.of(self.bundle.name + CHECKSUM, checksum_line(self.bundle.sha256, self.bundle.name).encode())

    @property
    def names(self) -> list[str]:
        """Return the names to reserve: those of the files, and the one that a signature has.

        A signature that another bundle left there would make this one look forged.
        """
        signature = self.bundle.name + SIGNATURE
        return [*dict.fromkeys([self.bundle.name, signature, *(file.name for file in self.documents)])]

    def reporting(self, progress: Callable[[int], None]) -> ReleaseFiles:
        """Return the same files; ``progress`` is called with the number of bytes of each piece of the bundle."""
        return replace(self, bundle=replace(self.bundle, progress=progress))


@dataclass(frozen=True)
class Published:
    """The name of a release, and the paths or URLs of its files; ``signature`` is None for one that is not signed.

    Those of its documents are by the end of their names.
    """

    name: BundleName
    bundle: str
    checksum: str
    documents: Mapping[str, str]
    signature: str | None


def checksum_line(sha256: str, name: str) -> str:
    """Return a line as ``sha256sum`` writes and ``sha256sum -c`` reads it (coreutils, text mode: two blanks)."""
    return f"{sha256}  {name}\n"


def publish_new(
    publishers: Sequence[Publisher],
    finished: Path,
    names: Iterable[BundleName],
    *,
    sha256: str,
    documents: Mapping[str, bytes],
    sign: Callable[[str], bytes] | None = None,
    progress: Callable[[int], None] = ignore,
) -> Published:
    """Publish a finished bundle under the first of ``names`` that is free everywhere.

    Its checksum and documents are written beside it, and with ``sign`` its signature. No existing file is changed.
    The checksum is written first and reserves the name. The bundle comes last: where it exists, its other files
    exist too.

    Args:
        publishers: The places to publish to; the first is a folder, which keeps the bundle if a later one fails.
        finished: The finished bundle, in the staging folder of the first.
        names: Names of the bundle, in order of preference.
        sha256: The digest of the bundle, in hex.
        documents: The content of further files by what their names have after the stem, such as ".manifest.json".
        sign: Return the content of the signature for a bundle of this name; None for no signature.
        progress: Called with the number of bytes of each piece of the bundle that was read.

    Returns:
        The files in the first place.

    Raises:
        DestinationError: A file can't be written, or no name is free; then none of the files is there, or the
            bundle is in the first place, and not in all others: the hint says which.
        EnvpackError: ``sign`` failed; then none of the files is there.
    """
    first = publishers[0]
    for name in names:
        bundle, stem = str(name), name.stem
        beside = [Upload.of(f"{stem}{end}", content) for end, content in documents.items()]
        if sign is not None:
            beside.append(Upload.of(bundle + SIGNATURE, sign(bundle)))
        files = ReleaseFiles(Upload(bundle, finished, sha256, progress), tuple(beside))
        try:
            _write_everywhere(publishers, files)
        except FileExistsError:
            continue
        return Published(
            name,
            first.address(bundle),
            first.address(files.claim.name),
            {end: first.address(f"{stem}{end}") for end in documents},
            first.address(bundle + SIGNATURE) if sign is not None else None,
        )
    raise DestinationError(f"all names for the release are already used in {first.address('')}")


def _write_everywhere(publishers: Sequence[Publisher], files: ReleaseFiles) -> None:
    kept = ""
    try:
        with ExitStack() as stack:
            # the names are reserved everywhere before a file is written anywhere
            releases = [
                stack.enter_context(publisher.reserve(files.claim, files.names)) for publisher in publishers
            ]
            for publisher, release in zip(publishers, releases, strict=True):
                _put(publisher, release, files)
                kept = kept or publishers[0].address(files.bundle.name)
                files = replace(files, bundle=replace(files.bundle, content=Path(kept)))
    except (EnvpackError, FileExistsError) as problem:
        if not kept:
            raise
        error = problem if isinstance(problem, EnvpackError) else DestinationError("another release has the name")
        raise incomplete(kept, error) from None


def incomplete(bundle: str, cause: EnvpackError) -> DestinationError:
    """Return the error for a bundle that is in the first place, and not whole in another one, for a reason."""
    advice = f"The bundle is {bundle}: publish it with 'envpack publish {bundle} TARGET'."
    return DestinationError(cause.message, hint=f"{cause.hint} {advice}".strip(), details=cause.details)


def publish_files(publisher: Publisher, files: ReleaseFiles) -> bool:
    """Publish a release under the name that its bundle has.

    A release that was interrupted is continued.

    Returns:
        Whether it was published now; False where the same release was there already.

    Raises:
        DestinationError: A file can't be written, or another release has the name.
    """
    while True:
        try:
            claimed = publisher.read(files.claim.name)
        except FileNotFoundError:
            resume = False
        else:
            if claimed != files.claim.content:
                raise _taken(publisher, files)
            if files.bundle.name in publisher.files():
                return False
            resume = True
        try:
            _write(publisher, files, resume=resume)
        except FileExistsError:
            if resume or not _is_claimed(publisher, files):
                raise _taken(publisher, files) from None
            continue  # by another process, meanwhile
        return True


def _write(publisher: Publisher, files: ReleaseFiles, *, resume: bool) -> None:
    with publisher.reserve(files.claim, files.names, resume=resume) as release:
        _put(publisher, release, files)
        if resume:  # another process that published the same may have failed meanwhile, and taken its files back
            there = publisher.files()
            for file in (files.claim, *files.documents):
                if file.name not in there:
                    release.put(file)


def _put(publisher: Publisher, release: Release, files: ReleaseFiles) -> None:
    for file in files.documents:
        _put_document(publisher, release, file)
    release.commit(files.bundle)


def _put_document(publisher: Publisher, release: Release, file: Upload) -> None:
    try:
        release.put(file)
    except FileExistsError:
        if publisher.read(file.name) != file.content:  # else another process publishes the same
            raise


def _is_claimed(publisher: Publisher, files: ReleaseFiles) -> bool:
    try:
        publisher.read(files.claim.name)
    except FileNotFoundError:
        return False
    return True


def _taken(publisher: Publisher, files: ReleaseFiles) -> DestinationError:
    return DestinationError(
        f"{publisher.address(files.bundle.name)} is another bundle, or another file has one of its names",
        hint="A published name is never used again: 'envpack release' chooses a new one.",
    )
