"""What this host demands of a bundle before anything of it is unpacked: ``/etc/envpack/policy.toml``.

It is the administrator's: no option, variable or setting of a user leads past it, and what is wrong with it
refuses every bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envpack.config import nearest, read_toml
from envpack.runtime.commands.signature_requirement import POLICY_PATH, UNSIGNED_HINT, demands_signatures
from envpack.runtime.errors import IntegrityError, UsageError
from envpack.signing.bundle import Signed, check_manifest
from envpack.signing.keys import PublicKey, public_key_of

_KNOWN = ["require"]


@dataclass(frozen=True)
class Demand:
    """``keys``: one of which has to have signed a bundle; ``path``: where that stands."""

    path: Path
    keys: tuple[PublicKey, ...]

    def approve(self, manifest: bytes, bundle: Path | str) -> Signed:
        """Raises IntegrityError unless the bundle of this manifest is signed by one of the keys."""
        try:
            return check_manifest(manifest, bundle, self.keys)
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.path} demands a signature: {error.message}", hint=UNSIGNED_HINT, details=error.details
            ) from None


def demand(root: Path = Path("/")) -> Demand | None:
    """What the host with this root folder demands; None where it demands nothing.

    Raises IntegrityError for a policy that can't be read, has a key that nobody knows, or names no key: what was
    meant to be demanded can't be told.
    """
    if not demands_signatures(root):
        return None
    path = root / POLICY_PATH
    try:
        return Demand(path, _read(path))
    except UsageError as error:
        raise IntegrityError(
            f"{path} can't be followed: {error.message}", hint="It is for who administers this host to put right."
        ) from None


def _read(path: Path) -> tuple[PublicKey, ...]:
    document = read_toml(path)
    if document is None:
        raise UsageError("it can't be read")
    unknown = [key for key in document if key not in _KNOWN]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is nothing to demand{nearest(unknown[0], _KNOWN)}")
    words = document.get("require")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise UsageError("require: a list of keys or of paths of keys expected")
    for word in words:
        if not word.startswith(("RW", "/")):
            raise UsageError(f"require: {word!r} is no key, nor a path that begins with '/'")
    return tuple(public_key_of(word) for word in words)
