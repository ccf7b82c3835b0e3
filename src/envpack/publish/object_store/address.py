"""Addresses in object stores: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from envpack.runtime.errors import UsageError
from envpack.runtime.transport.redact import split_url

SCHEMES = ("s3", "gs", "az")

_BUCKET = re.compile(r"[A-Za-z0-9$](?:[A-Za-z0-9._-]{0,220}[A-Za-z0-9])?")
"""Names of buckets and containers. The services allow less, each in its own way: those of Google have up to 222
characters and ``_``, and Azure has a container ``$web``."""
_AS_IT_IS = "/+!~=,"


@dataclass(frozen=True)
class Address:
    """A bucket, or a container of Azure, and a prefix in it, which is like a folder.

    Attributes:
        scheme: One of `SCHEMES`.
        bucket: The name of the bucket.
        prefix: The names of the folders, joined by "/"; "" for none.
    """

    scheme: str
    bucket: str
    prefix: str = ""

    @property
    def parent(self) -> Address:
        """Return the address of the folder that the last name is in."""
        return Address(self.scheme, self.bucket, self.prefix.rpartition("/")[0])

    @property
    def name(self) -> str:
        """Return the last name; "" for a bucket."""
        return self.prefix.rpartition("/")[2]

    def of(self, name: str) -> str:
        """Return the address of a file in it, as text."""
        return f"{str(self).rstrip('/')}/{quote(name, safe=_AS_IT_IS)}"

    def __str__(self) -> str:
        """Return the address, with the characters quoted that have a meaning in an URL."""
        return f"{self.scheme}://{self.bucket}/{quote(self.prefix, safe=_AS_IT_IS)}".rstrip("/")


def parse_address(text: str) -> Address:
    """Return the address in an URL; what is quoted in it with ``%`` is decoded.

    Raises:
        UsageError: It is not valid.
    """
    parts = split_url(text)
    scheme = parts.scheme.lower()
    example = f"Write {scheme}://{'CONTAINER' if scheme == 'az' else 'BUCKET'}/PATH."
    if "@" in parts.netloc:
        raise UsageError(
            f"{scheme}:// URLs have no user and password",
            hint="Set the environment variables of the service; see docs/releasing.md.",
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise UsageError(f"{scheme}:// URL without a valid name of a bucket", hint=example)
    if parts.query or parts.fragment:
        raise UsageError(f"{scheme}:// URLs have no query", hint="Write %3F and %23 for '?' and '#' in a path.")
    prefix = unquote(parts.path, errors="surrogateescape").strip("/")
    for name in prefix.split("/") if prefix else ():
        if name in ("", ".", "..") or not name.isprintable():
            raise UsageError(
                f"{scheme}:// URL with an empty name, '.', '..' or a control character in its path", hint=example
            )
    return Address(scheme, parts.netloc, prefix)
