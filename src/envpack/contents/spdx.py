"""The software bill of materials of an environment in SPDX's JSON format.

Sources: the SPDX 2.3 specification (its clauses 5 to 11 and annex D) and its JSON schema. Equal environments give
equal bytes: no time of day, no random number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envpack.contents.described import (
    NOT_STATED,
    Locked,
    document_urn,
    embedded,
    is_digest,
    license_expression,
    purl,
    repository,
    timestamp,
)
from envpack.contents.graph import dependencies, roots
from envpack.contents.inventory import Installed
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.version import __version__

VERSION = "2.3"

_UNKNOWN = "NOASSERTION"
_DOCUMENT = "SPDXRef-DOCUMENT"
_URL = re.compile(r"https?://[!-~]+")
_LONGEST_COMMENT = 4000


def spdx(manifest: Manifest | Locked, sha256: str, installed: Sequence[Installed]) -> bytes:
    """Return the bill of materials of an environment, as JSON that ends with a line break.

    Args:
        manifest: The manifest of the environment, or what its lock says.
        sha256: The digest of the manifest or of the lock, in hexadecimal.
        installed: The packages of the environment.
    """
    document = _Document()
    root = document.package(f"environment-{manifest.name}-{manifest.version}", manifest.name, manifest.version)
    source = "lock" if isinstance(manifest, Locked) else "manifest"
    document.last.update(
        primaryPackagePurpose="APPLICATION",
        comment=f"conda environment for {manifest.subdir}; sha256 of its {source}: {sha256}",
    )
    document.relate(_DOCUMENT, "DESCRIBES", root)
    segments = {one.package.segment: document.installed(one, root) for one in installed}
    edges = dependencies(installed)
    for segment in roots(edges):
        document.relate(root, "DEPENDS_ON", segments[segment])
    for segment, targets in edges.items():
        for target in targets:
            document.relate(segments[segment], "DEPENDS_ON", segments[target])
    comment = {"comment": f"Made from a lock. Not stated: {NOT_STATED}."} if source == "lock" else {}
    licenses = {"hasExtractedLicensingInfos": list(document.licenses.values())} if document.licenses else {}
    value = {
        "spdxVersion": f"SPDX-{VERSION}",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": f"{manifest.name}-{manifest.version}-{manifest.subdir}",
        "documentNamespace": document_urn(manifest, sha256, f"spdx-{VERSION}"),
        "creationInfo": {
            # which SPDX requires also where no time is known
            "created": timestamp(manifest.created) or timestamp(0),
            "creators": [f"Tool: envpack-{__version__}"],
        },
        **comment,
        "packages": document.packages,
        "relationships": document.relationships,
        **licenses,
    }
    return json.dumps(value, indent=1).encode() + b"\n"


class _Document:
    """The lists of a document while they are filled."""

    def __init__(self) -> None:
        self.packages: list[dict[str, Any]] = []
        self.relationships: list[dict[str, str]] = []
        self.licenses: dict[str, dict[str, str]] = {}
        self._taken: set[str] = {_DOCUMENT}

    @property
    def last(self) -> dict[str, Any]:
        """Return the package that was added last."""
        return self.packages[-1]

    def package(self, reference: str, name: str, version: str) -> str:
        """Add a package of which no more is known yet, and return its id."""
        id = self._unused(f"SPDXRef-{_identifier(reference)}")
        stated = {"versionInfo": version} if version else {}
        self.packages.append(
            {"SPDXID": id, "name": name, **stated, "downloadLocation": _UNKNOWN, "filesAnalyzed": False}
        )
        return id

    def relate(self, one: str, how: str, other: str) -> None:
        self.relationships.append(
            {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other},
        )

    def installed(self, one: Installed, root: str) -> str:
        """Add a package of the environment, and what is in it. Return its id."""
        id = self._described(one.package, one.package.segment, root)
        if one.modified:
            text = f"Files that are not as the package published them: {', '.join(one.modified)}"
            self.last["comment"] = text if len(text) <= _LONGEST_COMMENT else f"{text[:_LONGEST_COMMENT]}..."
        for distribution in one.distributions:
            inside = id
            if one.package.kind == "conda":
                package = distribution.package
                inside = self._described(package, f"{one.package.segment}-{package.name}-{package.version}", id)
            for component in embedded(distribution.documents):
                self._library(component, inside)
        return id

    def _described(self, package: Package, reference: str, inside: str) -> str:
        id = self.package(reference, package.name, package.version)
        self.relate(inside, "CONTAINS", id)
        if _URL.fullmatch(package.url):
            self.last["downloadLocation"] = repository(package) or package.url
        self.last.update(_checksums([("SHA-256", package.sha256)]))
        self.last["licenseDeclared"] = self._license(package.license)
        self.last["externalRefs"] = [_reference("PACKAGE-MANAGER", "purl", purl(package))]
        return id

    def _library(self, component: Mapping[str, Any], inside: str) -> None:
        """Add a component that `embedded` found."""
        name, version = component["name"], component.get("version", "")
        id = self.package(f"{inside.removeprefix('SPDXRef-')}-{name}", name, version)
        self.relate(inside, "CONTAINS", id)
        self.last.update(_checksums((each["alg"], each["content"]) for each in component.get("hashes", ())))
        licenses = [each.get("expression", "") for each in component.get("licenses", ())]
        self.last["licenseDeclared"] = self._license(licenses[0] if len(licenses) == 1 else "")
        references = []
        for key, category, kind, form in (
            ("purl", "PACKAGE-MANAGER", "purl", r"pkg:[!-~]+"),
            ("cpe", "SECURITY", "cpe23Type", r"cpe:2\.3:[!-~]+"),
        ):
            if re.fullmatch(form, component.get(key, "")):
                references.append(_reference(category, kind, component[key]))
        if references:
            self.last["externalRefs"] = references

    def _license(self, text: str) -> str:
        """Return a license as an expression: a text that is none becomes a reference to that text."""
        if not text:
            return _UNKNOWN
        expression = license_expression(text)
        if expression:
            for id in re.findall(r"LicenseRef-[\w.-]+", expression):
                self.licenses.setdefault(id, _extracted(id, id))
            return expression
        known = (id for id, info in self.licenses.items() if info["extractedText"] == text)
        id = next(known, None) or self._unused(f"LicenseRef-{_identifier(text)[:60]}")
        self.licenses.setdefault(id, _extracted(id, text))
        return id

    def _unused(self, id: str) -> str:
        number, found = 1, id
        while found in self._taken:
            number += 1
            found = f"{id}-{number}"
        self._taken.add(found)
        return found


def _identifier(text: str) -> str:
    """Return a text with the characters of an SPDX identifier only."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "unnamed"


def _extracted(id: str, text: str) -> dict[str, str]:
    return {"licenseId": id, "extractedText": text}


def _reference(category: str, kind: str, locator: str) -> dict[str, str]:
    return {"referenceCategory": category, "referenceType": kind, "referenceLocator": locator}


def _checksums(stated: Iterable[tuple[str, str]]) -> dict[str, list[dict[str, str]]]:
    found = [
        {"algorithm": name.replace("-", ""), "checksumValue": value.lower()}
        for name, value in stated
        if is_digest(name, value)
    ]
    return {"checksums": found} if found else {}
