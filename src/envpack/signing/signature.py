"""minisign's signature files: https://jedisct1.github.io/minisign/, "Signature format"."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envpack.runtime.errors import FetchError, IntegrityError, UsageError
from envpack.runtime.fs.io import read_file
from envpack.runtime.transport.open import open_source, shown
from envpack.signing.keys import MAX_FILE, UNTRUSTED, PublicKey, SecretKey, decode_base64

_TRUSTED = "trusted comment: "
_PREHASHED, _LEGACY = b"ED", b"Ed"
MAX_COMMENT = 1024
"""Most characters of a comment."""


@dataclass(frozen=True)
class Signature:
    """A signature.

    Args:
        id: The id of the key, 8 bytes.
        signature: The signature of the data's BLAKE2b-512, 64 bytes.
        comment: The trusted comment.
        global_signature: The signature of ``signature`` and ``comment``, 64 bytes.
        untrusted: The untrusted comment, which is not signed.
    """

    id: bytes
    signature: bytes
    comment: str
    global_signature: bytes
    untrusted: str = "signature by envpack"

    @property
    def text(self) -> str:
        """Return the content of the signature file."""
        first = base64.b64encode(_PREHASHED + self.id + self.signature).decode()
        global_signature = base64.b64encode(self.global_signature).decode()
        return f"{UNTRUSTED}{self.untrusted}\n{first}\n{_TRUSTED}{self.comment}\n{global_signature}\n"


def sign(data: bytes, key: SecretKey, comment: str) -> Signature:
    """Return the signature of ``data`` and of the ``comment``.

    Args:
        data: The bytes to sign.
        key: The key to sign with.
        comment: One line of at most `MAX_COMMENT` printable characters.

    Raises:
        UsageError: The comment has other characters, or is too long.
    """
    if len(comment) > MAX_COMMENT or any(not char.isprintable() and char != "\t" for char in comment):
        raise UsageError(f"a comment has one line of at most {MAX_COMMENT:,} printable characters")
    signature = key.sign(_digest(data))
    return Signature(key.id, signature, comment, key.sign(signature + comment.encode()))


def read_signature(location: Path | str) -> Signature:
    """Read a signature at a path or URL.

    Raises:
        IntegrityError: There is no file, it can't be read, or it is no signature that envpack supports.
    """
    path = shown(location)
    try:
        text = _bytes_of(location).decode("utf-8")
    except FileNotFoundError:
        raise IntegrityError(
            f"there is no signature {path}", hint="Get the .minisig file from the same location as the bundle."
        ) from None
    except FetchError as error:
        raise IntegrityError(f"there is no signature: {error.message}", hint=error.hint) from None
    except OSError as problem:
        raise IntegrityError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise _invalid(path) from None
    return parse_signature(text, path)


def parse_signature(text: str, path: str) -> Signature:
    """Return the signature in a text of minisign's format; ``path``: what has it, for messages.

    Raises:
        IntegrityError: It is no signature that envpack supports.
    """
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise _invalid(path)
    first, global_signature = decode_base64(lines[1]), decode_base64(lines[3])
    if first[:2] == _LEGACY:
        raise IntegrityError(
            f"{path} is a signature in the old format of minisign",
            hint="Sign the bundle again, with 'minisign -H'.",
        )
    if len(first) != 74 or first[:2] != _PREHASHED or len(global_signature) != 64 or any(lines[4:]):
        raise _invalid(path)
    comment = lines[2][len(_TRUSTED) :].rstrip("\r")
    return Signature(first[2:10], first[10:], comment, global_signature, lines[0][len(UNTRUSTED) :])


def _bytes_of(location: Path | str) -> bytes:
    if isinstance(location, Path):
        return read_file(location, MAX_FILE)
    source = open_source(location)
    try:
        return source.read(0, MAX_FILE)
    finally:
        source.close()


def check_signature(data: bytes, signature: Signature, keys: Iterable[PublicKey], what: str) -> PublicKey:
    """Return the key of ``keys`` that signed ``data`` and the signature's comment.

    Args:
        data: The signed bytes.
        signature: The signature to verify.
        keys: The accepted keys.
        what: The name of the data in messages.

    Raises:
        IntegrityError: None of the keys signed it, or the comment was changed.
    """
    accepted = list(keys)
    candidates = [key for key in accepted if key.id == signature.id]
    if not candidates:
        name = PublicKey(signature.id, b"").name
        raise IntegrityError(
            f"{what} is signed by the key {name}, which is not one of the accepted keys",
            hint="Get a bundle that is signed with one of these keys.",
            details=[f"{key.name}: {key.text}" for key in accepted],
        )
    hashed = _digest(data)
    for key in candidates:
        if key.verifies(signature.signature, hashed):
            if not key.verifies(signature.global_signature, signature.signature + signature.comment.encode()):
                raise IntegrityError(f"the signature's comment of {what} was changed")
            return key
    raise IntegrityError(f"the signature is not of this bundle: {what}")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=64).digest()


def _invalid(path: str) -> IntegrityError:
    return IntegrityError(f"{path} is not a signature of minisign")
