"""Signing of bundles, and verification of their signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.codec import Decoder
from envpack.runtime.fs.paths import check_links
from envpack.runtime.fs.temporary import replace_file
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.transport.open import append_suffix, shown
from envpack.signing.keys import PublicKey, SecretKey
from envpack.signing.signature import Signature, check_signature, read_signature, sign


@dataclass(frozen=True)
class Signed:
    """A bundle with its verified signature.

    Args:
        bundle: Path or URL of the bundle.
        signature: Path or URL of the signature.
        key: The key that signed it.
        comment: The comment that was signed with it.
    """

    bundle: str
    signature: str
    key: PublicKey
    comment: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "bundle": self.bundle,
            "signature": self.signature,
            "key": self.key.text,
            "key_id": self.key.name,
            "comment": self.comment,
        }


def signature_path(bundle: Path) -> Path:
    """Return the path of a bundle's signature: the bundle's path with ``.minisig`` appended."""
    return bundle.with_name(bundle.name + ".minisig")


def sign_manifest(manifest: bytes, bundle: Path, key: SecretKey, comment: str) -> Signature:
    """Return the signature of a bundle that has this manifest.

    Args:
        manifest: The bytes of the manifest.
        bundle: The path of the bundle.
        key: The key to sign with.
        comment: A comment to sign; when empty, the bundle's name is signed instead.

    Raises:
        UsageError: The comment is not one line of printable characters, or is too long.
    """
    return sign(manifest, key, comment or f"file:{bundle.name}\thashed")


def sign_bundle(bundle: Path, key: SecretKey, comment: str, decoders: Mapping[str, Decoder]) -> Signed:
    """Write the signature beside the bundle, replacing an existing one. Only the bundle's head is read.

    Args:
        bundle: The path of the bundle.
        key: The key to sign with.
        comment: A comment to sign; when empty, the bundle's name is signed instead.
        decoders: Decoders by codec.

    Raises:
        FormatError, IntegrityError: The bundle is bad.
        UsageError: The comment is not one line of printable characters, or is too long.
        DestinationError: The signature can't be written.
    """
    with open_bundle(bundle, decoders) as opened:
        signature = sign_manifest(opened.manifest_bytes, bundle, key, comment)
    path = signature_path(bundle)
    check_links(path.parent)
    try:
        replace_file(path, signature.text.encode())
    except OSError as problem:
        raise DestinationError(f"can't write {path}: {problem.strerror}") from None
    return Signed(str(bundle), str(path), key.public, signature.comment)


def check_manifest(manifest: bytes, bundle: Path | str, keys: Sequence[PublicKey]) -> Signed:
    """Verify the signature beside a bundle against its manifest.

    Args:
        manifest: The bytes of the manifest.
        bundle: Path or URL of the bundle.
        keys: The accepted keys.

    Raises:
        IntegrityError: There is no signature, or none of the keys made it for this manifest.
    """
    location = append_suffix(bundle, ".minisig")
    signature = read_signature(location)
    name = shown(bundle)
    key = check_signature(manifest, signature, keys, name)
    return Signed(name, shown(location), key, signature.comment)
