"""A release: the files of a bundle, their names, and the order in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envpack.publish.base import Publisher, Upload
from envpack.runtime.errors import DestinationError

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


@dataclass(frozen=True)
class Published:
    """The paths or URLs of a release's files; ``signature`` is None for one that is not signed.

    Those of its documents are by the end of their names.
    """

    bundle: str
    checksum: str
    documents: Mapping[str, str]
    signature: str | None


def checksum_line(sha256: str, name: str) -> str:
    """Return a line as ``sha256sum`` writes and ``sha256sum -c`` reads it (coreutils, text mode: two blanks)."""
    return f"{sha256}  {name}\n"


def publish_new(
    publisher: Publisher,
    finished: Path,
    stems: Iterable[str],
    suffix: str,
    *,
    sha256: str,
    documents: Mapping[str, bytes],
    sign: Callable[[str], bytes] | None = None,
) -> Published:
    """Publish a finished bundle under the first free name of ``stems``.

    Its checksum and documents are written beside it, and with ``sign`` its signature. No existing file is changed.
    The checksum is written first and reserves the name. The bundle comes last: where it exists, its other files
    exist too.

    Args:
        publisher: The place to publish to.
        finished: The finished bundle.
        stems: File names without suffix, in order of preference.
        suffix: The suffix of the bundle.
        sha256: The digest of the bundle, in hex.
        documents: The content of further files by what their names have after the stem, such as ".manifest.json".
        sign: Return the content of the signature for a bundle of this name; None for no signature.

    Raises:
        DestinationError: A file can't be written, or no name is free; then none of the files is there.
        EnvpackError: ``sign`` failed; then none of the files is there.
    """
    for stem in stems:
        bundle = stem + suffix
        beside = [Upload.of(f"{stem}{end}", content) for end, content in documents.items()]
        if sign is not None:
            beside.append(Upload.of(bundle + SIGNATURE, sign(bundle)))
        files = ReleaseFiles(Upload(bundle, finished, sha256), tuple(beside))
        try:
            _write(publisher, files)
        except FileExistsError:
            continue
        return Published(
            publisher.address(bundle),
            publisher.address(files.claim.name),
            {end: publisher.address(f"{stem}{end}") for end in documents},
            publisher.address(bundle + SIGNATURE) if sign is not None else None,
        )
    raise DestinationError(f"all names for the release are already used in {publisher.address('')}")


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


def _write(publisher: Publisher, files: ReleaseFiles, *, resume: bool = False) -> None:
    with publisher.reserve(files.claim, files.names, resume=resume) as release:
        for file in files.documents:
            release.put(file)
        release.commit(files.bundle)


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
