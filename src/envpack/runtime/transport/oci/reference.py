"""References to bundles in registries: ``oci://host[:port]/repository[:tag][@sha256:digest]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from envpack.runtime.errors import UsageError
from envpack.runtime.transport.http.url import PORTS, Url

SCHEME = "oci"
LATEST = "latest"
"""The tag of a reference that has none."""

_HOST = r"(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9._-]")
"""Repositories and tags: OCI distribution specification 1.1, "Pulling manifests"."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ADDRESS = re.compile(
    rf"{SCHEME}://{_HOST}/(?P<repository>[^:@#?]+)(?::(?P<tag>[^@#?]*))?(?:@(?P<digest>[^#?]*))?(?:#(?P<part>[.a-z]+))?",
    re.IGNORECASE,
)
_LONGEST_REPOSITORY = 255
_DOCKER_HUB = ("docker.io", "registry-1.docker.io")
"""The name of Docker's registry in references, and the host that answers for it."""
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
_HINT = "Write oci://host/repository:tag, or oci://host/repository@sha256:DIGEST."


@dataclass(frozen=True)
class Reference:
    """A reference.

    Attributes:
        host: The name or address of the registry, an IPv6 address without brackets.
        port: Its port; None for that of https or http.
        repository: The repository, such as ``team/demo``.
        tag: The tag; "" for none.
        digest: The digest of a manifest, with ``sha256:``; "" for none. It takes precedence over the tag.
        part: The suffix of a document that belongs to the bundle, such as ".minisig"; "" for the bundle itself.
    """

    host: str
    port: int | None
    repository: str
    tag: str = ""
    digest: str = ""
    part: str = ""

    @property
    def registry(self) -> str:
        """Return host and port, as configuration files name a registry."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """Return the address of the repository."""
        return f"{SCHEME}://{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """Return what a manifest is requested by: digest or tag."""
        return self.digest or self.tag or LATEST

    @property
    def is_loopback(self) -> bool:
        """Return whether the registry is on this host."""
        return _LOOPBACK.fullmatch(self.host) is not None

    def pinned(self, digest: str) -> Reference:
        """Return the reference to the same bundle for ever; a tag that moves is left out."""
        return replace(self, tag="" if self.tag == LATEST else self.tag, digest=digest)

    def url(self, target: str, *, plain: bool) -> Url:
        """Return the URL of a path below ``/v2/`` of the registry; ``plain`` is for http without TLS."""
        scheme = "http" if plain else "https"
        host = _DOCKER_HUB[1] if self.host == _DOCKER_HUB[0] else self.host
        return Url(scheme, host, self.port or PORTS[scheme], f"/v2/{target}")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.place}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_reference(text: str) -> Reference:
    """Return the reference in an address.

    Raises:
        UsageError: It is not valid. The message does not repeat it, as it may have a password in it.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UsageError(
            "invalid oci:// address: it can't have a user and a password"
            if "@" in text.partition("@sha256:")[0]
            else "invalid oci:// address",
            hint=f"{_HINT} Credentials are those of 'docker login' or 'podman login'.",
        )
    host, repository = found["host"].strip("[]").lower(), found["repository"]
    tag, digest = found["tag"], found["digest"]
    if host == _DOCKER_HUB[0] and "/" not in repository:
        repository = f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST_REPOSITORY:
        raise UsageError(
            f"invalid name of a repository: {quote(repository, safe='/ ')}",
            hint="It has lower case letters, digits, and one of . _ - / between them.",
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise UsageError(
            f"invalid tag: {quote(tag, safe=' ')}", hint="It has letters, digits and . _ - only, at most 128."
        )
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise UsageError("invalid digest", hint="It is sha256: and 64 digits and letters from a to f.")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 1 << 16:
        raise UsageError("invalid port", hint=_HINT)
    return Reference(host, port, repository, tag or "", digest or "", found["part"] or "")


def is_digest(text: object) -> bool:
    """Return whether a value is a digest that envpack can verify."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def tag_for(text: str) -> str:
    """Return a text as a tag: characters that no tag has become ``_``."""
    tag = _NOT_IN_TAGS.sub("_", text)[:128]
    return tag if _TAG.fullmatch(tag) else f"_{tag}"[:128]
