"""minisign's key files, secret and public: https://jedisct1.github.io/minisign/, "Key format"."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from envpack.runtime.errors import DestinationError, UsageError
from envpack.runtime.fs.io import CREATE, read_file

UNTRUSTED = "untrusted comment: "
MAX_FILE = 4096
"""Most bytes of a key or signature file; minisign's have less than 1,300."""

_ALGORITHM, _CHECKSUM, _SCRYPT, _PLAIN = b"Ed", b"B2", b"Sc", b"\0\0"
_OPS, _MEMORY = 1 << 25, 1 << 30
"""minisign's limits for scrypt: libsodium's OPSLIMIT_SENSITIVE and MEMLIMIT_SENSITIVE, 1 GiB and seconds."""
_MAX_MEMORY = 1 << 30
_NO_CHECKSUM = bytes(32)
"""The checksum that minisign writes where nothing is encrypted (-W)."""


@dataclass(frozen=True)
class PublicKey:
    """A public key; ``id``: 8 bytes that identify it; ``key``: 32 bytes of Ed25519."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """Return the id as minisign shows it."""
        return f"{int.from_bytes(self.id, 'little'):016X}"

    @property
    def text(self) -> str:
        """Return the key as one line, as ``minisign -P`` takes it; it starts with RW."""
        return base64.b64encode(_ALGORITHM + self.id + self.key).decode()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature``, 64 bytes, is this key's signature of ``data``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SecretKey:
    """A secret key; ``id``: 8 bytes that identify it; ``seed``: 32 bytes that Ed25519 derives both keys from."""

    id: bytes
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """Return the public key that belongs to this key."""
        return PublicKey(self.id, self._private().public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """Return the signature of ``data``, 64 bytes."""
        return self._private().sign(data)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def __repr__(self) -> str:
        return f"SecretKey({self.public.name})"


def new_key() -> SecretKey:
    """Return a new random key."""
    return SecretKey(os.urandom(8), os.urandom(32))


def public_key(text: str, name: str) -> PublicKey:
    """Return a public key from its line, or from the content of a key file.

    Raises:
        UsageError: The text is no public key; the message names ``name``.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith(UNTRUSTED):
        lines = lines[1:]
    data = decode_base64(lines[0]) if len(lines) == 1 else b""
    if len(data) != 42 or data[:2] != _ALGORITHM:
        raise UsageError(
            f"{name} is not a public key of minisign", hint="A public key is a line that begins with RW."
        )
    return PublicKey(data[2:10], data[10:])


def public_key_of(text: str) -> PublicKey:
    """Return the public key that a user names: by the line itself, or by the path of a file.

    A key is never a path: a file of its name in the working directory can have another key in it.

    Raises:
        UsageError: The word is neither, or the file can't be read.
    """
    data = decode_base64(text)
    if len(data) == 42 and data[:2] == _ALGORITHM:
        return public_key(text, repr(text))
    return public_key(_read(Path(text)), text)


def public_key_file(key: PublicKey) -> str:
    """Return the content of a public key file."""
    return f"{UNTRUSTED}minisign public key {key.name}\n{key.text}\n"


def secret_key_of(path: Path, password: Callable[[], str]) -> SecretKey:
    """Read a secret key from a file.

    Args:
        path: The key file.
        password: Called for the password when the key is encrypted.

    Raises:
        UsageError: The file can't be read, is no secret key, is damaged, asks for more memory or operations than
            minisign's limits, or the password is wrong.
    """
    lines = _read(path).splitlines()
    data = decode_base64(lines[1]) if len(lines) >= 2 and lines[0].startswith(UNTRUSTED) else b""
    if len(data) != 158 or data[:2] != _ALGORITHM or data[2:4] not in (_SCRYPT, _PLAIN) or data[4:6] != _CHECKSUM:
        raise UsageError(
            f"{path} is not a secret key of minisign", hint="Create one with 'envpack sign --new-key NAME'."
        )
    secret = data[54:]
    if data[2:4] == _SCRYPT:
        ops, memory = int.from_bytes(data[38:46], "little"), int.from_bytes(data[46:54], "little")
        if memory > _MAX_MEMORY or ops > _OPS:
            raise UsageError(f"{path} needs more than {_MAX_MEMORY >> 30} GiB of memory to be decrypted")
        secret = _xor(secret, _stream(password(), data[6:38], ops, memory))
    id, seed, public, checksum = secret[:8], secret[8:40], secret[40:72], secret[72:]
    key = SecretKey(id, seed)
    expected = _checksum(id, seed, public) if data[2:4] == _SCRYPT else _NO_CHECKSUM
    if checksum not in (expected, _checksum(id, seed, public)) or key.public.key != public:
        reason = "the password is wrong" if data[2:4] == _SCRYPT else "it is damaged"
        raise UsageError(f"{path} can't be used: {reason}")
    return key


def secret_key_file(key: SecretKey, password: str, *, ops: int = _OPS, memory: int = _MEMORY) -> str:
    """Return the content of a secret key file.

    Args:
        key: The key.
        password: Encrypts the key; when empty, the key is not encrypted.
        ops: libsodium's limit of operations for scrypt.
        memory: libsodium's limit of memory for scrypt, bytes.
    """
    public = key.public.key
    secret = key.id + key.seed + public + _checksum(key.id, key.seed, public)
    if not password:
        secret = secret[:72] + _NO_CHECKSUM
        head = _ALGORITHM + _PLAIN + _CHECKSUM + bytes(48)
        kind = "minisign secret key"
    else:
        salt = os.urandom(32)
        head = _ALGORITHM + _SCRYPT + _CHECKSUM + salt + ops.to_bytes(8, "little") + memory.to_bytes(8, "little")
        secret = _xor(secret, _stream(password, salt, ops, memory))
        kind = "minisign encrypted secret key"
    return f"{UNTRUSTED}{kind}\n{base64.b64encode(head + secret).decode()}\n"


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not exist yet.

    Args:
        path: The file.
        text: Its content, ASCII.
        mode: Its permission bits, before the umask.

    Raises:
        DestinationError: The file exists, or can't be written.
    """
    try:
        fd = os.open(path, CREATE, mode)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as problem:
        raise DestinationError(f"can't write {path}: {problem.strerror}", hint="Choose another name.") from None


def decode_base64(line: str) -> bytes:
    """Return the bytes of a base64 line, b"" for anything else."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _read(path: Path) -> str:
    try:
        return read_file(path, MAX_FILE, stream=True).decode("utf-8")
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}", hint="Give the path of a key.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a key of minisign") from None


def _checksum(id: bytes, seed: bytes, public: bytes) -> bytes:
    return hashlib.blake2b(_ALGORITHM + id + seed + public, digest_size=32).digest()


def _stream(password: str, salt: bytes, ops: int, memory: int) -> bytes:
    logarithm, parallel = scrypt_parameters(ops, memory)
    scrypt = Scrypt(salt=salt, length=104, n=1 << logarithm, r=8, p=parallel)
    return scrypt.derive(password.encode())


def scrypt_parameters(ops: int, memory: int) -> tuple[int, int]:
    """Return log2 of N, and p, for r = 8, as libsodium chooses them.

    Source: crypto_pwhash_scryptsalsa208sha256.c, ``pickparams``.
    """
    ops = max(ops, 32768)
    maximum = ops // 32 if ops < memory // 32 else memory // 1024
    logarithm = 1
    while logarithm < 63 and 1 << logarithm <= maximum // 2:
        logarithm += 1
    if ops < memory // 32:
        return logarithm, 1
    return logarithm, max(1, min(ops // 4 // (1 << logarithm), 0x3FFFFFFF) // 8)


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))
