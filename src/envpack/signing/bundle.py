"""Signing bundles, and asking who signed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpack.runtime.errors import DestinationError
from envpack.runtime.format.codec import Decoder
from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.transport.open import beside, shown
from envpack.signing.keys import PublicKey, SecretKey
from envpack.signing.signature import Signature, check_signature, read_signature, sign


@dataclass(frozen=True)
class Signed:
    """A bundle and who signed it: the key, and the comment that was signed with it."""

    bundle: str
    signature: str
    key: PublicKey
    comment: str

    def as_dict(self) -> dict[str, Any]:
        """JSON's view."""
        return {
            "bundle": self.bundle,
            "signature": self.signature,
            "key": self.key.text,
            "key_id": self.key.name,
            "comment": self.comment,
        }


def signature_path(bundle: Path) -> Path:
    """Beside the bundle: its name and ``.minisig``."""
    return bundle.with_name(bundle.name + ".minisig")


def sign_manifest(manifest: bytes, bundle: Path, key: SecretKey, comment: str) -> Signature:
    """The signature of a bundle that has this manifest; without a ``comment``, its name is signed."""
    return sign(manifest, key, comment or f"file:{bundle.name}\thashed")


def sign_bundle(bundle: Path, key: SecretKey, comment: str, decoders: Mapping[str, Decoder]) -> Signed:
    """Writes the signature beside the bundle, replacing one that is there. Only the bundle's head is read.

    Raises FormatError or IntegrityError for a bad bundle, DestinationError when the signature can't be written.
    """
    with open_bundle(bundle, decoders) as opened:
        signature = sign_manifest(opened.manifest_bytes, bundle, key, comment)
    path = signature_path(bundle)
    try:
        replace_file(path, signature.text.encode())
    except OSError as problem:
        raise DestinationError(f"can't write {path}: {problem.strerror}") from None
    return Signed(str(bundle), str(path), key.public, signature.comment)


def check_manifest(manifest: bytes, bundle: Path | str, keys: Sequence[PublicKey]) -> Signed:
    """Who of ``keys`` signed the bundle of this manifest, going by the signature beside it, be it a file or on a
    server. Raises IntegrityError when none of them did."""
    where = beside(bundle, ".minisig")
    signature = read_signature(where)
    name = shown(bundle)
    key = check_signature(manifest, signature, keys, name)
    return Signed(name, shown(where), key, signature.comment)


def check_bundle(bundle: Path | str, keys: Sequence[PublicKey], decoders: Mapping[str, Decoder]) -> Signed:
    """The same, the manifest read from the bundle."""
    with open_bundle(bundle, decoders) as opened:
        return check_manifest(opened.manifest_bytes, bundle, keys)
