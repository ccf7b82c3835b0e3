"""A release: the files of a bundle, their names, and the order in which they are published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envpack.publish.base import Publisher, Upload
from envpack.runtime.errors import DestinationError


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
        finished: The finished bundle, in the publisher's staging folder.
        stems: File names without suffix, in order of preference.
        suffix: The suffix of the bundle.
        sha256: The digest of the bundle, in hex.
        documents: The content of further files by what their names have after the stem, such as ".manifest.json".
        sign: Return the content of the signature for a bundle of this name; None for no signature.

    Raises:
        DestinationError: A file can't be written, or no name is free; then none of the files is there.
        EnvpackError: ``sign`` failed; then none of the files is there.
    """
    from envpack.signing.bundle import signature_path  # imported here: cryptography is slow to load

    for stem in stems:
        bundle = stem + suffix
        claim = _small(f"{bundle}.sha256", checksum_line(sha256, bundle).encode())
        beside = [_small(f"{stem}{end}", content) for end, content in documents.items()]
        signature = signature_path(Path(bundle)).name
        if sign is not None:
            beside.append(_small(signature, sign(bundle)))
        # a signature left there by another bundle would make this one look forged: its name is reserved, too
        names = dict.fromkeys([bundle, signature, *(file.name for file in beside)])
        try:
            with publisher.reserve(claim, [*names]) as release:
                for file in beside:
                    release.put(file)
                release.commit(Upload(bundle, finished, sha256))
        except FileExistsError:
            continue
        return Published(
            publisher.address(bundle),
            publisher.address(claim.name),
            {end: publisher.address(f"{stem}{end}") for end in documents},
            publisher.address(signature) if sign is not None else None,
        )
    raise DestinationError(f"all names for the release are already used in {publisher.address('')}")


def _small(name: str, content: bytes) -> Upload:
    return Upload(name, content, hashlib.sha256(content).hexdigest())
