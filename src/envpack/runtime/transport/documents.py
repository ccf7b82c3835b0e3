"""Small JSON documents beside bundles: the parts of a split bundle, and the pointer to the latest release.

``NAME.parts.json`` lists files that are a bundle when they are joined in order, for places that limit the size of
a file. ``ENVIRONMENT-latest-SUBDIR.json`` names the bundle of the latest release. All files are in one folder.
"""

from __future__ import annotations

import json
import re
from typing import Any, Mapping, NamedTuple, Sequence

from envpack.runtime.errors import FormatError
from envpack.runtime.fs.json_text import json_value

PARTS = ".parts.json"
_LATEST = re.compile(r".+-latest-[a-z0-9]+-[a-z0-9_]+\.json")
PARTS_KEY, LATEST_KEY = "envpack_parts", "envpack_latest"
VERSION = 1

MAX_DOCUMENT = 1 << 20
"""Bytes of the largest document that is read: one with 1,000 parts, the most that a release on GitHub has, has
about 200,000."""
_MAX_PARTS = 10_000
_MAX_SIGNATURE = 4096
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Part(NamedTuple):
    """A part of a bundle: the name of its file, its size in bytes, and its digest in hex."""

    name: str
    size: int
    sha256: str


class SplitBundle(NamedTuple):
    """A bundle in parts: its file name, size in bytes and digest in hex, and its parts in order."""

    name: str
    size: int
    sha256: str
    parts: Sequence[Part]

    def as_dict(self) -> dict[str, Any]:
        """Return the document."""
        bundle = {**self._asdict(), "parts": [part._asdict() for part in self.parts]}
        return {PARTS_KEY: VERSION, "bundle": bundle}


class Latest(NamedTuple):
    """The latest release of an environment for a platform.

    Attributes:
        name: the name of the environment.
        version: its version.
        subdir: conda's platform.
        released: the date in the name of the release, as YYYY-MM-DD.
        expires: the date until which it is to be believed, as YYYY-MM-DD; "" without end.
        bundle: the file name of the bundle, or of its ``.parts.json``.
        size: the size of the bundle in bytes.
        sha256: its digest, in hex.
        manifest_sha256: the digest of its manifest, in hex.
        signature: the signature of `statement`, in minisign's format; "" for none.
    """

    name: str
    version: str
    subdir: str
    released: str
    expires: str
    bundle: str
    size: int
    sha256: str
    manifest_sha256: str
    signature: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the document."""
        return {LATEST_KEY: VERSION, **self._asdict()}

    def statement(self) -> bytes:
        """Return the bytes to sign: the document without its signature, as compact JSON with sorted keys."""
        document = {key: value for key, value in self.as_dict().items() if key != "signature"}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def is_parts(name: str) -> bool:
    """Return whether a file name is that of a list of parts."""
    return name.endswith(PARTS)


def is_latest(name: str) -> bool:
    """Return whether a file name is that of a pointer to the latest release."""
    return _LATEST.fullmatch(name) is not None


def latest_name(name: str, subdir: str) -> str:
    """Return the file name of the pointer to the latest release of an environment for a platform."""
    return f"{name}-latest-{subdir}.json"


def read_parts(data: bytes, where: str) -> SplitBundle:
    """Return the bundle that a list of parts describes.

    Args:
        data: the document.
        where: its path or URL, for messages.

    Raises:
        FormatError: it is no such document, or does not agree with itself.
    """
    document = _object(data, where, PARTS_KEY)
    try:
        bundle = document["bundle"]
        parts = [
            Part(_name(part["name"]), _size(part["size"]), _digest(part["sha256"])) for part in bundle["parts"]
        ]
        found = SplitBundle(_name(bundle["name"]), _size(bundle["size"]), _digest(bundle["sha256"]), parts)
    except (LookupError, TypeError, ValueError) as problem:
        raise _invalid(where, str(problem)) from None
    if not 0 < len(parts) <= _MAX_PARTS or sum(part.size for part in parts) != found.size:
        raise _invalid(where, "the sizes of the parts do not add up")
    return found


def read_latest(data: bytes, where: str) -> Latest:
    """Return the release that a pointer names.

    Args:
        data: the document.
        where: its path or URL, for messages.

    Raises:
        FormatError: it is no such document.
    """
    document = _object(data, where, LATEST_KEY)
    try:
        name, version, subdir, released = (_text(document[key]) for key in Latest._fields[:4])
        expires, signature = _date(document["expires"]), document["signature"]
        if not isinstance(signature, str) or len(signature) > _MAX_SIGNATURE:
            raise ValueError("the signature is not a short text")
        bundle, size, sha256 = _file({**document, "name": document["bundle"]})
        manifest = _digest(document["manifest_sha256"])
        return Latest(name, version, subdir, released, expires, bundle, size, sha256, manifest, signature)
    except (LookupError, TypeError, ValueError) as problem:
        raise _invalid(where, str(problem)) from None


def _object(data: bytes, where: str, key: str) -> dict[str, Any]:
    if len(data) > MAX_DOCUMENT:
        raise _invalid(where, f"it has more than {MAX_DOCUMENT:,} bytes")
    try:
        document = json_value(data)
    except ValueError as problem:
        raise _invalid(where, str(problem)) from None
    version = document.get(key) if isinstance(document, dict) else None
    if type(version) is not int:
        raise _invalid(where, f"{key!r} is missing")
    if version != VERSION:
        raise FormatError(
            f"{where} has format {version}, this envpack reads {VERSION}", hint="Use a newer envpack."
        )
    found: dict[str, Any] = document
    return found


def _file(value: Mapping[str, Any]) -> tuple[str, int, str]:
    return _name(value["name"]), _size(value["size"]), _digest(value["sha256"])


def _date(value: object) -> str:
    if value != "" and not (isinstance(value, str) and _DATE.fullmatch(value)):
        raise ValueError(f"{value!r} is not a date")
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 255:
        raise ValueError(f"{value!r} is not a short text")
    return value


def _name(value: object) -> str:
    """Return a file name; one with a folder in it could lead anywhere."""
    name = _text(value)
    if not name or "/" in name or name in (".", "..") or name == "-":
        raise ValueError(f"{name!r} is not a file name")
    return name


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 60:
        raise ValueError(f"{value!r} is not a size")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is not a SHA-256 digest")
    return value


def _invalid(where: str, what: str) -> FormatError:
    return FormatError(f"{where} is not what its name says: {what}", hint="Publish the release again.")
