"""Manifests and indexes of registries: what they state, checked; and what envpack writes into them.

Source: OCI image specification 1.1. A bundle is an image whose layers, joined, are the bundle.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Sequence

from envpack.runtime.errors import FormatError
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.transport.oci.reference import is_digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+"
"""The type of a layer, without its codec."""

BUNDLE = "application/vnd.envpack.bundle.v1"
SIGNATURE = "application/vnd.envpack.minisig.v1"
DOCUMENTS: Mapping[str, str] = {
    ".minisig": SIGNATURE,
    ".manifest.json": "application/vnd.envpack.manifest.v1+json",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".notes.md": "application/vnd.envpack.notes.v1+markdown",
}
"""The artifact types of the documents of a bundle, by the ends of their names."""

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
VERSION = "org.opencontainers.image.version"
NAME = "vnd.envpack.name"
FILE = "vnd.envpack.file"
SHA256 = "vnd.envpack.sha256"
LATEST_POINTER = "vnd.envpack.latest"
DOCUMENT_NAMES = "vnd.envpack.documents"
"""Annotations: the name of the environment; the file name of the bundle, and its digest in hex; in the index of
latest releases, the pointer to each; the names of a bundle's documents, with blanks between them."""

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest: the least that registries accept (distribution specification, "Pushing Manifests"), and the
most that many do."""
_LARGEST = 1 << 60
_MAX_LAYERS = 20_000


class Platform(NamedTuple):
    """A platform in Go's words: operating system, architecture, and its variant or ""."""

    os: str
    architecture: str
    variant: str = ""

    def as_dict(self) -> dict[str, str]:
        return {key: value for key, value in self._asdict().items() if value}

    def __str__(self) -> str:
        return "/".join(filter(None, self))


PLATFORMS: Mapping[str, Platform] = {
    "linux-64": Platform("linux", "amd64"),
    "linux-32": Platform("linux", "386"),
    "linux-aarch64": Platform("linux", "arm64"),
    "linux-armv7l": Platform("linux", "arm", "v7"),
    "linux-ppc64le": Platform("linux", "ppc64le"),
    "linux-riscv64": Platform("linux", "riscv64"),
    "linux-s390x": Platform("linux", "s390x"),
    "osx-64": Platform("darwin", "amd64"),
    "osx-arm64": Platform("darwin", "arm64"),
    "win-64": Platform("windows", "amd64"),
    "win-arm64": Platform("windows", "arm64"),
}
"""Platforms by conda's subdir. Source: GOOS and GOARCH of Go's cmd/dist, and CEP 26."""

_MACHINES = {"x86_64": "64", "amd64": "64", "arm64": "arm64", "aarch64": "aarch64", "i686": "32"}
_SYSTEMS = {"Linux": "linux", "Darwin": "osx", "Windows": "win"}


def platform_of(subdir: str) -> Platform:
    """Return the platform of a subdir; of an unknown one, and of ``noarch``, that of this host."""
    return PLATFORMS.get(subdir) or host_platform()


def host_platform() -> Platform:
    """Return the platform of this host."""
    machine = platform.machine()
    subdir = f"{_SYSTEMS.get(platform.system(), '')}-{_MACHINES.get(machine.lower(), machine)}"
    return PLATFORMS.get(subdir) or Platform(platform.system().lower(), machine)


@dataclass(frozen=True)
class Descriptor:
    """What a manifest states about a blob or another manifest.

    Attributes:
        type: Its media type.
        digest: Its digest, with ``sha256:``.
        size: Its size in bytes.
        artifact: Its artifact type; "" for none.
        platform: The platform that it is for; None if it is not stated.
        annotations: Further texts.
    """

    type: str
    digest: str
    size: int
    artifact: str = ""
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        found: dict[str, Any] = {"mediaType": self.type, "digest": self.digest, "size": self.size}
        if self.artifact:
            found["artifactType"] = self.artifact
        if self.platform is not None:
            found["platform"] = self.platform.as_dict()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True)
class Document:
    """A manifest or an index.

    Attributes:
        type: Its media type.
        digest: Its digest, with ``sha256:``.
        size: Its size in bytes.
        artifact: Its artifact type; "" for none.
        layers: The layers of a manifest.
        manifests: The manifests of an index.
        annotations: Its annotations.
    """

    type: str
    digest: str
    size: int
    artifact: str
    layers: Sequence[Descriptor]
    manifests: Sequence[Descriptor]
    annotations: Mapping[str, str]

    def descriptor(self, platform: Platform | None = None) -> Descriptor:
        """Return what an index states about it."""
        return Descriptor(self.type, self.digest, self.size, self.artifact, platform, self.annotations)


def read_document(data: bytes, digest: str, type: str, where: str) -> Document:
    """Return the manifest or index in ``data``.

    Args:
        data: the JSON, whose digest was verified.
        digest: the digest.
        type: the media type that the registry states; that in ``data`` takes precedence.
        where: its address, for messages.

    Raises:
        FormatError: it is neither, or a part of it has another form than it must have.
    """
    try:
        value = json_value(data)
        stated = value.get("mediaType", type)
        if stated not in (MANIFEST, INDEX):
            raise FormatError(
                f"{where}: neither a manifest nor an index of OCI, but {str(stated)[:80]!r}",
                hint="It is not a bundle that envpack published.",
            )
        return Document(
            stated,
            digest,
            len(data),
            _text(value.get("artifactType", "")),
            _descriptors(value.get("layers", [])) if stated == MANIFEST else (),
            _descriptors(value.get("manifests", [])) if stated == INDEX else (),
            _annotations(value),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise FormatError(f"{where}: a manifest that is not valid: {problem}"[:500]) from None


def choose(index: Document, wanted: Platform, where: str) -> Descriptor:
    """Return the manifest of an index for a platform.

    Raises:
        FormatError: there is none.
    """
    bundles = [each for each in index.manifests if each.type == MANIFEST and each.platform is not None]
    for each in bundles:
        if each.platform is not None and each.platform[:2] == wanted[:2]:
            return each
    there = sorted({str(each.platform) for each in bundles})
    raise FormatError(
        f"{where}: nothing for {wanted}, but for {', '.join(there) or 'no other platform'}",
        hint="Give the tag of a release for this platform.",
    )


def _descriptors(values: object) -> list[Descriptor]:
    if not isinstance(values, list) or len(values) > _MAX_LAYERS:
        raise ValueError("too many layers, or not a list")
    return [_descriptor(value) for value in values]


def _descriptor(value: Mapping[str, Any]) -> Descriptor:
    size = value["size"]
    if not is_digest(value["digest"]) or type(size) is not int or not 0 <= size < _LARGEST:
        raise ValueError("a layer without digest or size")
    where = value.get("platform")
    stated = None
    if where is not None:
        stated = Platform(*(_text(where.get(key, "")) for key in Platform._fields))
    artifact = _text(value.get("artifactType", ""))
    return Descriptor(_text(value["mediaType"]), value["digest"], size, artifact, stated, _annotations(value))


def _annotations(value: Mapping[str, Any]) -> dict[str, str]:
    found = value.get("annotations") or {}
    return {_text(key): _text(text) for key, text in found.items()}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:80]!r} is not a text")
    return value
