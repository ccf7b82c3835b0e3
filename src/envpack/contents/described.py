"""What all formats of bills of materials say of packages: package-urls, licenses, dates, libraries in wheels.

Sources: the package-url types "conda" and "pypi" (purl-spec), PEP 639 for licenses, PEP 770 for libraries.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from envpack.runtime.format.manifest import Manifest, Package

NOT_STATED = "the files of packages, the dependencies of pip packages, the Python distributions in conda packages"
"""What is not known of an environment that is only locked."""

_TEXTS = ("type", "group", "name", "version", "purl", "cpe")
"""Texts kept of a component of another document, with its hashes and licenses. Other members may refer to parts of
that document."""

_TYPES = (
    *("application", "framework", "library", "container", "platform", "operating-system", "device"),
    *("device-driver", "firmware", "file", "machine-learning-model", "data", "cryptographic-asset"),
)
"""Types of components in CycloneDX 1.6."""

HASHES = {"MD5": 32, "SHA-1": 40, "SHA-256": 64, "SHA-384": 96, "SHA-512": 128}
"""Hexadecimal digits of digests, by CycloneDX's name of the algorithm; SPDX's has no hyphen."""


@dataclass(frozen=True)
class Locked:
    """What a lock says of an environment that is not built yet, by the names that a manifest has.

    Attributes:
        name: The name of the environment.
        version: Its version.
        subdir: conda's platform.
        created: The time of its newest conda package, in seconds since 1970; 0 if none is known.
    """

    name: str
    version: str
    subdir: str
    created: int


def document_urn(manifest: Manifest | Locked, sha256: str, format: str = "") -> str:
    """Return the URN of a document: equal documents, and no others, have the same.

    Args:
        manifest: What the document describes.
        sha256: The digest of the manifest or of the lock, in hexadecimal; a lock may be of several environments.
        format: The format of the document; "" for CycloneDX.
    """
    parts = [sha256, format]
    if isinstance(manifest, Locked):
        parts += [manifest.name, manifest.subdir]
    name = ":".join(["urn:envpack", *filter(None, parts)])
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


def timestamp(seconds: int) -> str:
    """Return a time in seconds since 1970 as ISO 8601 in UTC; "" for one that no date can represent."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # a manifest may state any number
        return ""


def purl(package: Package) -> str:
    """Return the package-url of a package (purl-spec, types conda and pypi)."""
    if package.kind == "conda":
        archive = re.search(r"\.(conda|tar\.bz2)(?:$|[?#])", package.url)
        qualifiers = {
            "build": package.build,
            "channel": _channel_name(package),
            "subdir": package.subdir,
            "type": archive[1] if archive else "",
        }
        name = package.name.lower()
    else:
        qualifiers = {"vcs_url": repository(package)}
        name = canonicalize_name(package.name)
    stated = "&".join(f"{key}={_quoted(value, '/:')}" for key, value in qualifiers.items() if value)
    found = f"pkg:{package.kind}/{_quoted(name)}@{_quoted(package.version)}"
    return f"{found}?{stated}" if stated else found


def _channel_name(package: Package) -> str:
    """Return the name of a channel, with its label: conda records the URL of the channel's directory, at times."""
    place = package.channel.rstrip("/").removesuffix(f"/{package.subdir}").removesuffix("/label/main")
    found = re.search(r"[^/]+(?:/label/[^/]+)?\Z", place)
    return found[0] if found else ""


def repository(package: Package) -> str:
    """Return the repository that a package was built from, as clause 7.7 of SPDX writes it; "" for an archive."""
    if not package.commit or not package.url:
        return ""
    url, _, folder = package.url.partition("#subdirectory=")
    return f"git+{url}@{package.commit}{f'#{folder}' if folder else ''}"


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="surrogatepass")  # a manifest may state any text


def license_expression(text: str) -> str:
    """Return a license as an SPDX expression, normalised; "" for a text that is none."""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return ""


def embedded(documents: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the components of the CycloneDX documents in a wheel (PEP 770), and those inside them.

    The component that is the wheel itself is left out, and so is what is not valid in CycloneDX 1.6: the document
    may be of another version of it, or have mistakes.
    """
    todo = [component for document in documents for component in _list(document.get("components"))]
    while todo:
        component = todo.pop(0)
        kept = {key: component[key] for key in _TEXTS if isinstance(component.get(key), str)}
        if "name" in kept:
            if kept.get("type") not in _TYPES:
                kept["type"] = "library"
            yield {**kept, **_nonempty(hashes=_hashes(component), licenses=_licenses(component))}
        todo = [*_list(component.get("components")), *todo]


def _nonempty(**members: list[Any]) -> dict[str, list[Any]]:
    return {name: value for name, value in members.items() if value}


def _hashes(component: Mapping[str, Any]) -> list[dict[str, str]]:
    stated = _list(component.get("hashes"))
    return [
        {"alg": each["alg"], "content": each["content"]}
        for each in stated
        if is_digest(each.get("alg"), each.get("content"))
    ]


def is_digest(algorithm: object, value: object) -> bool:
    """Return whether a value is a digest in hexadecimal, of one of `HASHES`."""
    size = HASHES.get(algorithm) if isinstance(algorithm, str) else None
    return size is not None and isinstance(value, str) and bool(re.fullmatch(rf"[0-9a-fA-F]{{{size}}}", value))


def _licenses(component: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one expression, or the names of licenses. An id that is alone is an expression, too."""
    texts: list[object] = []
    for item in _list(component.get("licenses")):
        license = item["license"] if isinstance(item.get("license"), dict) else {}
        texts.append(item.get("expression") or license.get("id") or license.get("name"))
    names = [text for text in texts if isinstance(text, str)]
    if len(names) == 1 and license_expression(names[0]):
        return [{"expression": license_expression(names[0])}]
    return [{"license": {"name": name}} for name in names]


def _list(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
