"""The host's signature policy, ``/etc/envpack/policy.toml``, which applies before a bundle is unpacked.

It belongs to the administrator: no option, variable or setting of a user overrides it, and an error in it makes
envpack refuse every bundle.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from envpack.config import read_toml
from envpack.runtime.commands.signature_requirement import POLICY_PATH, UNSIGNED_HINT, signatures_required
from envpack.runtime.errors import IntegrityError, UsageError
from envpack.runtime.fs.writers import other_writer
from envpack.runtime.transport.documents import Latest
from envpack.signing.bundle import Signed, check_manifest
from envpack.signing.keys import PublicKey, public_key, public_key_of
from envpack.signing.signature import check_signature, parse_signature
from envpack.suggest import nearest

_SETTINGS = ["require"]


@dataclass(frozen=True)
class SignaturePolicy:
    """The host's signature requirement; ``path``: the policy file; ``keys``: one of them must have signed."""

    path: Path
    keys: tuple[PublicKey, ...]

    def approve(self, manifest: bytes, bundle: Path | str) -> Signed:
        """Return the verified signature of the bundle with this manifest.

        Raises:
            IntegrityError: The bundle is not signed by one of the keys.
        """
        try:
            return check_manifest(manifest, bundle, self.keys)
        except IntegrityError as error:
            raise IntegrityError(
                f"{self.path} requires a signature: {error.message}", hint=UNSIGNED_HINT, details=error.details
            ) from None

    def approve_latest(self, latest: Latest, where: str, today: date) -> None:
        """Check the statement which release is the latest.

        Args:
            latest: The statement.
            where: Its path or URL, for messages.
            today: The date in UTC.

        Raises:
            IntegrityError: It is not signed by one of the keys, or it has expired.
        """
        advice = "Deploy a bundle by its own name, or ask who publishes it for a new statement."
        if not latest.signature:
            raise IntegrityError(f"{self.path} requires a signature, and {where} has none", hint=advice)
        signature = parse_signature(latest.signature, where)
        check_signature(latest.statement(), signature, self.keys, where)
        if not latest.expires:
            raise IntegrityError(f"{where} does not say until when it is valid", hint=advice)
        if latest.expires < today.isoformat():
            raise IntegrityError(f"{where} expired on {latest.expires}: there may be a newer release", hint=advice)


def signature_policy(root: Path = Path("/")) -> SignaturePolicy | None:
    """Return the signature requirement of the host with this root folder; None where there is none.

    Raises:
        IntegrityError: The policy can't be read, has an unknown setting, or names no key, so that the requirement
            can't be determined.
    """
    if not signatures_required(root):
        return None
    path = root / POLICY_PATH
    try:
        return SignaturePolicy(path, _read(path, root))
    except UsageError as error:
        raise IntegrityError(
            f"{path} is not a valid policy: {error.message}",
            hint="Ask the administrator of this host to correct it.",
        ) from None


def _read(path: Path, root: Path) -> tuple[PublicKey, ...]:
    _require_trusted(path, root)
    document = read_toml(path)
    if document is None:
        raise UsageError("it can't be read")
    unknown = [key for key in document if key not in _SETTINGS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a setting{nearest(unknown[0], _SETTINGS, 'the settings are:')}")
    texts = document.get("require")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise UsageError("require: expected a list of keys or of paths of keys")
    for text in texts:
        if not text.startswith(("RW", "/")):
            raise UsageError(f"require: {text!r} is neither a key nor a path that begins with '/'")
        if text.startswith("/"):
            _require_trusted(Path(text), root)
    return tuple(public_key_of(text) if text.startswith("/") else public_key(text, repr(text)) for text in texts)


def _require_trusted(path: Path, root: Path) -> None:
    """Raise UsageError when other users than root could write to a file, or put another one in its place.

    The file and each folder above it, also where a link leads to, have to belong to root and be closed to others,
    as sudo requires of its policy (sudoers(5), "SUDOERS OPTIONS", sudoers_uid). Who owns the root folder counts as
    root: in a user namespace that may have another number.
    """
    trusted = root.stat()
    owners, groups = (0, trusted.st_uid), (0, trusted.st_gid)
    for place in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for each in (place, *place.parents):
            try:
                facts = each.lstat()
            except FileNotFoundError:
                continue
            harmless = stat.S_ISLNK(facts.st_mode) or (
                stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
            )
            if facts.st_uid not in owners or (not harmless and other_writer(each, owners, groups)):
                raise UsageError(f"users other than root can write to {each}")
            if each == root:
                break
